"""What the system calls talk to. Drivers know nothing of skills, runs or HTTP routes."""
