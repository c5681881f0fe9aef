"""Draws the pictures of the notebooks, the README and CONTRIBUTING into the folder above: `make pictures`.

This lies beside the pictures and outside the exported package: it draws with the package's own code, and nothing in the
package needs it. Every module draws one or two pictures, as functions without arguments that return SVG text, and
`pictures.py` lists them. All is drawn anew from the phantom, except for the numbers of a trained model (`trained.py`).
"""
