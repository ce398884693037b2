"""How far a run's numbers can be trusted: replays at finer steps, twins, and a judgment of both.

`judgment` decides from numbers alone; `report` reads, writes and words the file next to the run;
`replays` makes the runs; `assess` combines them.
"""
