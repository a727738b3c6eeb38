"""What the stages of training and generation share around transformers, TRL and PEFT. Imported inside `run` only."""
