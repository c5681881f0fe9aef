"""Hostile inputs by rule: `make test-faults` runs thousands, tests/test_faults_sample.py some of every class.

A try is a real command in a process of its own, over a copy of small reference material of which a rule has changed
something. Its number and a seed make it: `python -m tests.faults --seed 0 --only 17` shows the input and what came of
it. The classes are the modules under `rules`.
"""
