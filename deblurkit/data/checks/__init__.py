"""Whether a dataset is what it says: its files, decoding, spike rates, alignment and kind of blur."""
