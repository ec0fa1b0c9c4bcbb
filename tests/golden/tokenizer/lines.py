"""The lines that tokenizers are compared on: 100,000 of them, 5,000 for each of 20 groups of scripts,
the same on every machine. Only explicit ranges of code points and a generator of our own are used, so
that no version of Python or of Unicode changes them. A line is bytes: some are not UTF-8."""

N_GROUPS, N_EACH = 20, 5000

# Letters, marks and digits of each group: ranges of code points, the more common ones twice.
GROUPS = {
    "english": [(0x61, 0x7A), (0x61, 0x7A), (0x41, 0x5A)],
    "latin": [(0x61, 0x7A), (0xC0, 0x17F), (0x180, 0x24F), (0x1E00, 0x1EFF), (0x300, 0x345)],
    "greek": [(0x391, 0x3A1), (0x3A3, 0x3FF), (0x3B1, 0x3C9), (0x1F00, 0x1F15), (0x1F18, 0x1F1D)],
    "cyrillic": [(0x410, 0x44F), (0x410, 0x44F), (0x400, 0x481), (0x483, 0x52F), (0x1C80, 0x1C88)],
    "hebrew": [(0x5D0, 0x5EA), (0x5D0, 0x5EA), (0x591, 0x5C7), (0xFB1D, 0xFB4F)],
    "arabic": [(0x620, 0x64A), (0x620, 0x64A), (0x64B, 0x65F), (0x660, 0x6D5), (0xFB50, 0xFBB1),
               (0xFE80, 0xFEFC)],
    "devanagari": [(0x904, 0x939), (0x93A, 0x94F), (0x958, 0x96F), (0x900, 0x903)],
    "bengali, gujarati": [(0x985, 0x9B9), (0x9BC, 0x9CE), (0x9DC, 0x9EF), (0xA85, 0xAB9),
                          (0xABC, 0xACD)],
    "tamil, telugu, malayalam": [(0xB85, 0xBB9), (0xBBE, 0xBCD), (0xC05, 0xC39), (0xC3E, 0xC4D),
                                 (0xD05, 0xD39), (0xD3E, 0xD4D)],
    "thai, lao": [(0xE01, 0xE3A), (0xE40, 0xE4E), (0xE50, 0xE59), (0xE81, 0xEBD), (0xEC0, 0xECD)],
    "khmer, burmese": [(0x1780, 0x17B3), (0x17B4, 0x17D3), (0x1000, 0x102A), (0x102B, 0x103E)],
    "georgian, armenian": [(0x10D0, 0x10FF), (0x10A0, 0x10C5), (0x1C90, 0x1CBF), (0x531, 0x556),
                           (0x561, 0x587)],
    "ethiopic, tifinagh": [(0x1200, 0x1248), (0x12A0, 0x12B0), (0x1361, 0x137C), (0x2D30, 0x2D67)],
    "hangul": [(0xAC00, 0xD7A3), (0xAC00, 0xD7A3), (0x1100, 0x1112), (0x1161, 0x1175),
               (0x11A8, 0x11C2), (0x3131, 0x318E)],
    "han": [(0x4E00, 0x9FFF), (0x4E00, 0x5200), (0x3400, 0x4DBF), (0x20000, 0x20FFF),
            (0x2B820, 0x2B920), (0x2CEB0, 0x2CF00), (0xF900, 0xFAFF), (0x2F00, 0x2FD5)],
    "kana": [(0x3041, 0x3096), (0x30A1, 0x30FA), (0x3099, 0x309F), (0xFF66, 0xFF9D),
             (0x4E00, 0x4F00)],
    "tibetan, mongolian": [(0xF40, 0xF6C), (0xF71, 0xF87), (0xF90, 0xFBC), (0x1820, 0x1878),
                           (0x180B, 0x180F)],
    "cherokee, syllabics": [(0x13A0, 0x13F5), (0xAB70, 0xABBF), (0x1400, 0x1500), (0x13F8, 0x13FD)],
    "symbols": [(0x2190, 0x23FF), (0x2460, 0x24FF), (0x2100, 0x218B), (0xFF01, 0xFF5E),
                (0x1D400, 0x1D7FF), (0x1F100, 0x1F1FF), (0x3200, 0x33FF), (0x2070, 0x20CF)],
    "newer scripts": [(0x10D00, 0x10D85), (0x11380, 0x113D5), (0x11900, 0x119E4), (0x1E900, 0x1E95F),
                      (0x16EA0, 0x16ED3), (0x1E030, 0x1E08F), (0x1E2C0, 0x1E2F9), (0xA7C0, 0xA7FF),
                      (0x8A0, 0x8E2), (0x1AB0, 0x1ACE)],
}
EMOJI = [
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "1️⃣", "👨🏿‍🚀", "🫠", "☃", "✅", "\U0001FAE8",
]
PUNCTUATION = list(".,;:!?-()[]{}'\"/\\@#$%^&*_+=<>|~`") + [
    "…", "—", "–", "«", "»", "“", "”", "‘", "’", "¿", "¡", "§", "、", "。", "「", "」", "،", "؟", "।",
    "॥", "׃", "๏", "៕", "።", "·", "‿", "⁂", "⸺", "‐", "\u2e43", "\u061d",
]
SPACES = [" ", " ", " ", "  ", "   ", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u1680",
          "\u205f", "\u0085", "\u000b", "\u000c", "\r", "\n", "\n\n", "\n\n\n", "          "]
CONTROL = [chr(c) for c in range(0x20)] + ["\x7f", "\x80", "\x9f", "\u00ad", "\u200c", "\u200d", "\u200e",
                                           "\u202e", "\u2060", "\ufeff", "\ufffd", "\ufff9", "\ue000",
                                           "\U000e0001", "\U0010fffd", "\uffff", "\u0378"]
MARKS = [(0x300, 0x36F), (0x483, 0x487), (0x591, 0x5BD), (0x64B, 0x65F), (0x93C, 0x94D),
         (0x1DC0, 0x1DFF), (0x20D0, 0x20F0), (0x302A, 0x302F), (0xFE20, 0xFE2F), (0x1AB0, 0x1ACE)]
PIECES = ["<bos>", "<eos>", "<image>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "<unk>", "<pad>", "<unused7>",
          "<0x41>", "▁", "▁▁", "##ing", "##", "don't", "we'll", "I'm", "they've", "'s", "''", "'tis",
          "İstanbul", "ΣΊΣΥΦΟΣ", "ẞ", "ŉ", "ﬁn", "Å", "ｆｕｌｌ", "ＷＩＤＥ", "①②", "½", "x²", "İ"]
CODE = ["for(int i=0;i<n;i++){a[i]+=b[i];}", "def f(x): return x**2", "SELECT * FROM t WHERE id='7';",
        "https://example.org/a/b?c=d&e=%20#f", "C:\\Users\\name\\file.txt", "user.name+tag@example.com",
        "{\"key\": [1, 2.5e-3, null]}", "<p class=\"x\">&nbsp;</p>", "$HOME/.config/*.json", "--long-option=1"]
WORDS = ("the of and to in is that it for on with as was at by an be this from or are which not have "
         "one all page document table figure section contract invoice boundary layer transfer pressure "
         "tokenization unbelievable internationalization electroencephalography").split()
INVALID = [b"\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80",
           b"\xf4\x90\x80\x80", b"\xfe\xfe", b"\xe0\x9f\xbf"]


class Dice:
    """A linear congruential generator (Knuth's MMIX), its upper half."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 32) % n

    def of(self, items):
        return items[self.below(len(items))]

    def within(self, ranges):
        first, last = self.of(ranges)
        return chr(first + self.below(last - first + 1))


def word(dice, ranges):
    n = 1 + dice.below(9)
    if dice.below(60) == 0:
        n = 60 + dice.below(120)
    return "".join(dice.within(ranges) for _ in range(n))


def part(dice, ranges):
    kind = dice.below(32)
    if kind < 17:
        return word(dice, ranges).encode()
    if kind < 20:
        return dice.of(WORDS).encode()
    if kind == 20:
        return "".join(dice.of(EMOJI) for _ in range(1 + dice.below(3))).encode()
    if kind == 21:
        return (word(dice, ranges) + "".join(dice.within(MARKS) for _ in range(1 + dice.below(6)))).encode()
    if kind == 22:
        return "".join(dice.of(CONTROL) for _ in range(1 + dice.below(3))).encode()
    if kind == 23:
        return dice.of(INVALID)
    if kind == 24:
        return dice.of(CODE).encode()
    if kind == 25:
        return dice.of(PIECES).encode()
    if kind == 26:
        return f"{dice.below(10**6) - 500000}.{dice.below(1000)}".encode()
    if kind == 27:
        return dice.of(WORDS).upper().encode()
    return "".join(dice.of(PUNCTUATION) for _ in range(1 + dice.below(3))).encode()


def line(dice, ranges):
    out = []
    for _ in range(1 + dice.below(14)):
        out.append(part(dice, ranges))
        if dice.below(4):
            out.append(dice.of(SPACES).encode() if dice.below(8) == 0 else b" ")
    return b"".join(out)


def lines():
    """All of them, a thousand belonging together."""
    assert len(GROUPS) == N_GROUPS
    for group_i, ranges in enumerate(GROUPS.values()):
        dice = Dice(group_i + 1)
        for _ in range(N_EACH):
            yield line(dice, ranges)


def every_code_point():
    """Each code point but surrogates, among letters and digits, alone and with a mark."""
    for code in range(0x110000):
        if not 0xD800 <= code <= 0xDFFF:
            c = chr(code)
            yield f"ab{c}Cd {c}\u0301 1{c}\u0323{c}".encode()


def as_read(data):
    """The text that bytes are read as: every invalid byte is U+FFFD."""
    out, at = [], 0
    while at < len(data):
        try:
            out.append(data[at:].decode())
            break
        except UnicodeDecodeError as bad:
            out.append(data[at:at + bad.start].decode())
            out.append("\ufffd")
            at += bad.start + 1
    return "".join(out)


def escaped(data):
    """As a line of the program `tokenize`'s input."""
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b"\n"
