"""Packaging from settings.ini, the one list of requirements."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
readme = Path("README.md")

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    url=settings["git_url"],
    packages=find_packages(include=[settings["lib_path"], settings["lib_path"] + ".*"]),
    package_data={settings["lib_path"]: ["studies_notebooks/*.ipynb", "**/*.css", "**/*.js"]},
    python_requires=">=" + settings["min_python"],
    install_requires=settings["requirements"].split(),
    extras_require={
        "notebook": settings["notebook_requirements"].split(),
        "dev": settings["dev_requirements"].split(),
    },
    entry_points={"console_scripts": settings["console_scripts"].split()},
    zip_safe=False,
)
