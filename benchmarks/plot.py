def draw(*a):
    pass


def in_terminal(results, growth):
    return ""
