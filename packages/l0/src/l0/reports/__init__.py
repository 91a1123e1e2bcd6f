"""Looking at gated networks: tables, figures, and progress of a training loop."""
