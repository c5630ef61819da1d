"""What happens between iterations: logs, validation, checkpoints, the moving average."""
