"""Files, processes, devices and versions: what the rest of lmzoo needs from the machine it runs on."""
