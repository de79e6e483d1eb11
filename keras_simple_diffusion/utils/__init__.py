"""Errors, files, configurations and presets; nothing that computes."""
