"""
Faults as a feature: named, counted, repeatable.

A process under test is a child of ours; between it and its database stands a
`Proxy`, between it and its sources a `Relay`. Both count what passes and do
what is planned at chosen places. So no product code holds a fault point, and
nothing here runs in the service.
"""
