"""What the users send: when requests come, how long they are, what they say, and at which rate."""
