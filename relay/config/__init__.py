"""Configuration: YAML -> one validated, frozen model. `load()` is in load.py, the keys are in model.py."""
