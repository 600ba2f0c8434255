"""Files, processes, devices and versions: the services of the machine and its operating system."""
