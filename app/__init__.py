"""
An async ETL service on PostgreSQL, built like a river.

    source ──► extract ──► land ──► normalize ──► load ──► /data
                pages       raw      rows or       normalized
                            rows     rejections    rows

One room per thought; a room imports only from the storeys below it, and a test
(`tests/unit/test_house_rules.py`) holds that. From the roof to the cellar:

    main, __main__                                   join the edges
    api        web        cli                        the edges; never each other
    operations   demo                                verbs the edges share; sample sources
    scheduler                                        repeats the tick
    resources   plan                                 opens and closes everything, once; what is due
    pipeline                                         the only place where stages meet
    extract   land   normalize   load   watch        the stages; they exchange records
    sources   db   observability   embedded          what to pull; where it goes; what we say
    records   settings   faults                      values; what goes wrong on purpose
    errors   steps                                   words everyone knows; short work and long
    clock                                            what time it is

Importing this package does nothing: no engine, no settings, no app.
"""

__version__ = "0.1.0"
