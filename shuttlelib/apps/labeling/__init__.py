"""Label footage with Label Studio: frames out with the model's answers, a person's answers back in.

`work` is the folder a labelling lives in; `pick`, `pictures` and `tasks` make what a person sees, `page` is
how; `server` and `client` speak with Label Studio; `serve` puts these together. `answers`, `apply`, `history`
and `pull` bring labels home; `agreement` compares annotators, `effort` counts what a label costs.
"""
