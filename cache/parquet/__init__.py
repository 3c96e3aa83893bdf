"""Limits on Parquet files: the bytes that a file takes once decoded are counted before anything is decoded.

A file of a few kilobytes may claim to hold gigabytes.
"""
