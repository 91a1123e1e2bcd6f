"""From a network with gates, or with zeros, to a really smaller one of plain layers.

`materialization` is the face. A network becomes one list of operations (`flat_graph`); what is the
same for all inputs (`constants`) and what nothing reads (`dead_units`) is found, and taken out
(`slicing`); what is left becomes layers again (`plain_graph`, `plain_layers`, `reduced_layers`).
`spec` keeps the result in files, out of what is on the `white_list`.
"""
