"""Training objectives: functions that turn a network and a batch into a loss to be minimised."""
