"""The benchmarks: `make bench`, or `python -m tests.benchmarks --help`.

djworker and the servers that it is compared with run the same application, one worker each, one at a time, in several rounds.
The server is pinned to one core. Everything else (the load generator `wrk`, the database, the slow outside service, this
program) is pinned to another one. A round visits every row of a scenario once, and each round begins with another row, so
that whatever else the machine does hits all rows alike. Ratios are taken within a round, and the median of the rounds counts.

What is reported for each row: requests per second, p50 and p99 as `wrk` saw them, CPU time per request of the server's processes
(utime + stime of the whole tree from /proc, over the load phase), memory (PSS), errors, and the server's own connections to the
database. Behind it come the targets, each with its measured ratio and "met" or "not met". Nothing is asserted: the exit code is
1 only when a measurement is not valid, because a server did not start, answered with an error, or answered something else.

Modules, from the data down to the system:

* `scenarios` says what is measured, `servers` how each server is started, `settings`, `rawapp` and `pywsgi` what they serve;
* `session` runs the rounds, `measure` takes one measurement with `launch`, `wrk`, `bare`, `databases`, `proc` and `cores`;
* `summary` computes medians and ratios; `report` and `plot` show them.
"""
