"""Selection bias of template picking: theory, null experiment, bias-removed averages and correlations, verdict."""
