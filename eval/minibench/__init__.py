"""The bundled mini-benchmark: six kinds of question with exact truth, drawn offline from a seed."""
