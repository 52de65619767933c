"""StepAgent (arXiv 2411.03817): step-wise learning from an expert, by inspection and reflection."""
