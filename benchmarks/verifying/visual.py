def report(n):
    pass
