"""Measures whether an LLM inference optimization is worth adopting, on your GPU, for your traffic."""
