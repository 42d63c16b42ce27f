def card_markdown(record):
    return ""
