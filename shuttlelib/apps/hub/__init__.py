"""Data sets and weights on the Hugging Face Hub, and public sets by name: an add-on beside the flow.

`client` speaks with the Hub, `transfer` moves a folder up or down and loses nothing, `data` and `weights`
know what the folders hold, `card` describes them, `public` fetches the sets that others published.
"""
