"""Comparing methods: the arms of a comparison, its statistics, and the paper's tables as presets."""
