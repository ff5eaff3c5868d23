"""Where state lives: in this process, or in the Redis that a fleet shares; both behind the ports of core."""
