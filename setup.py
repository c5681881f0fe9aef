"""Packaging from settings.ini, the one list of requirements."""

from configparser import ConfigParser
from pathlib import Path
from shutil import copy

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
readme = Path("README.md")
site = settings["git_url"]
CLASSIFIERS = [
    "Development Status :: 3 - Alpha",
    "Environment :: Console",
    "Framework :: Jupyter",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX :: Linux",
    "Operating System :: MacOS",
    "Operating System :: Microsoft :: Windows",
    *(f"Programming Language :: Python :: {version}" for version in ("3", *settings["pythons"].split())),
    "Topic :: Scientific/Engineering :: Image Recognition",
    "Topic :: Scientific/Engineering :: Medical Science Apps.",
    "Typing :: Typed",
]


class build_with_notebooks(build_py):
    "Ship the studies' and explorers' notebooks inside the package; a checkout uses nbs itself."

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / settings["lib_path"] / "notebooks"
            target.mkdir(parents=True, exist_ok=True)
            for notebook in (
                *Path(settings["nbs_path"], "studies").glob("*.ipynb"),
                *Path(settings["nbs_path"], "explore").glob("*.ipynb"),
            ):
                copy(notebook, target)


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    url=site,
    project_urls={
        "Source": site,
        "Issues": f"{site}/issues",
        "Changelog": f"{site}/blob/{settings['branch']}/CHANGELOG.md",
    },
    classifiers=CLASSIFIERS,
    keywords=settings["keywords"].split(),
    packages=find_packages(include=[settings["lib_path"], settings["lib_path"] + ".*"]),
    package_data={settings["lib_path"]: ["py.typed", "**/*.csv", "**/*.css", "**/*.js"]},
    cmdclass={"build_py": build_with_notebooks},
    python_requires=">=" + settings["min_python"],
    install_requires=settings["requirements"].split(),
    extras_require={
        "notebook": settings["notebook_requirements"].split(),
        "volumes": settings["volumes_requirements"].split(),
        "cluster": settings["cluster_requirements"].split(),
        "dev": settings["dev_requirements"].split(),
        "docs": settings["docs_requirements"].split(),
    },
    entry_points={"console_scripts": settings["console_scripts"].split()},
    zip_safe=False,
)
