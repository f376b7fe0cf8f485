"""What the machine did while the requests ran: power, energy, memory, clocks, temperature.

A meter (`protocols.Meter`) knows its fields; what it cannot read is in `missing` with the reason. The
sampler reads meters beside the run and keeps every raw sample. Nothing here averages or subtracts:
figures are made later, from the samples.
"""
