"""The sampler as a package of OptunaHub's registry."""
