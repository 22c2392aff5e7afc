"""Outlier removal from particle stacks by radial profiles."""
