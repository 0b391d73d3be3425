"""Tables of the trust bench."""


def write(store, left_out):
    return "ok"
