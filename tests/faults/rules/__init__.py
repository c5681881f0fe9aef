"""The classes of hostile inputs, a module each."""

from . import configs, options, pictures, runs, sets, settings, studies, surroundings, tables, weights
