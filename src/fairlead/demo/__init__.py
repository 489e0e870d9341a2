"""A small shop on loopback, to see the gateway at work: `fairlead demo`."""
