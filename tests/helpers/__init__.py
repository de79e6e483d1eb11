"""Helpers that several tests share.

`models` builds small networks, models and data. Each `run_..._test` checks all
that holds for any object of one kind, such as samplers.
"""
