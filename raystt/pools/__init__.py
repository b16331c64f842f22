"""Persistent worker groups and evaluation actors that serve the trials of a search."""
