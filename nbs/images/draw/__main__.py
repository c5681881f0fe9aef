"""`python -m draw` in the folder above draws all pictures; `--train` trains the small model anew before."""

import sys

from draw.pictures import PICTURES, write_pictures

if __name__ == "__main__":
    if "--train" in sys.argv[1:]:
        from draw.small_model import train_and_keep

        train_and_keep()
    write_pictures()
    print(f"{len(PICTURES)} pictures drawn")
