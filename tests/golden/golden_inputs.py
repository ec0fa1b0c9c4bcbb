"""What is embedded: texts, and pictures as PNG files that are the same bytes on every machine."""

import pathlib
import struct
import zlib

import numpy

from make_checkpoints import bell

QUERIES = ["What was the revenue of the second quarter?",
           "Wie hoch war der Umsatz 2024? 合同 \U0001f600",
           ""]
PROMPTS = ["question", "query", "none"]
PASSAGES = [
    "The boundary layer of a flat plate is laminar up to a Reynolds number of two million.",
    "Heat transfer was measured (at the stagnation point), e.g. of a blunt body; total: 1,234.56!",
    "Quelle est la date de la facture? Какова сумма договора? 請求書の日付 \U0001f600 \u00e9a\u0301",
    "",
    "word",
    "the table of expenses stands on page 12 of the annual report " * 40,
]

# name: width, height, how
PICTURES = {
    "page": (620, 877, "page"),
    "noise": (211, 157, "noise"),
    "single": (300, 200, "single"),
    "dot": (1, 1, "noise"),
    "strip": (20000, 10, "page"),
}


def pixels(name):
    width, height, kind = PICTURES[name]
    if kind == "single":
        return numpy.broadcast_to(numpy.array([200, 30, 90], numpy.uint8), (height, width, 3))
    noise = bell("picture:" + name, 0, width * height * 3).reshape(height, width, 3)
    if kind == "noise":
        return (noise // 600 % 256).astype(numpy.uint8)
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.int64)
    ink = ((x // 7 * 2654435761 + y // 11 * 40503) % 97 < 40) & (y % 11 < 7) & (y % 260 > 30)
    paper = numpy.where(ink, 30, 245)[:, :, None] + noise // 40000
    paper[:, :, 2] -= (y // 90 % 3 == 1) * 60
    return numpy.clip(paper, 0, 255).astype(numpy.uint8)


def write_png(path, rgb):
    height, width, _ = rgb.shape
    rows = numpy.zeros((height, 1 + width * 3), numpy.uint8)
    rows[:, 1:] = rgb.reshape(height, width * 3)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) +
                                   chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)) +
                                   chunk(b"IEND", b""))


def write_pictures(folder):
    """{name: path}"""
    paths = {}
    for name in PICTURES:
        paths[name] = pathlib.Path(folder) / f"{name}.png"
        write_png(paths[name], pixels(name))
    return paths


# ---- for all-MiniLM-L6-v2 -----------------------------------------------------------------------

WORLD = [
    "The quick brown fox jumps over the lazy dog.", "What was the revenue in 2023?", "a", "?", "",
    " ", "\n\t\n", "COVID-19's R0 was ~2.5\u20133.0 (95% CI)", "https://example.org/a/b?c=d&e=f#g",
    "naïve café Zürich Ångström", "nai\u0308ve cafe\u0301", "STRASSE straße", "İstanbul ıssız",
    "Wie hoch war der Umsatz im zweiten Quartal?", "Quelle est la date de la facture ?",
    "¿Cuánto cuesta el billete a Málaga?", "Какова общая сумма договора?",
    "Ποιο είναι το συνολικό ποσό;", "合同的总金额是多少?", "請求書の日付はいつですか。",
    "계약서의 날짜는 언제입니까?", "ما هو تاريخ الفاتورة؟", "מה תאריך החשבונית?",
    "अनुबंध की कुल राशि क्या है?", "สัญญามีมูลค่าเท่าไร", "Tổng số tiền hợp đồng là bao nhiêu?",
    "Бүгін ауа райы қандай?", "ቀኑ ስንት ነው?", "გამარჯობა მსოფლიო", "Բարեւ աշխարհ", "வணக்கம் உலகம்",
    "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "x² + y² = z²; ∑ᵢ aᵢ ≤ ∞", "ﬁne ﬂow Ⅷ ½ ①", "zero\u200bwidth\u00adsoft\ufeffmark",
    "control \x01\x02 characters \x7f here", "[CLS] [SEP] [MASK] [PAD] [UNK]", "##ing ##s un##able",
    "ThisIsOneVeryLongWord" * 12, "1234567890" * 30, "!!!???...,,,;;;", "don't won't y'all've",
    "e-mail re-elected state-of-the-art", "$1,234.56 €99,99 ¥1000 £5", "12:30 p.m. on 3/4/2024",
    "import numpy as np  # comment\nprint(np.zeros((3, 4)))", "SELECT * FROM t WHERE a='b';",
    "{\"key\": [1, 2.5e-3, null, true]}", "\u202eright to left\u202c override", "tab\tand  spaces",
    "A sentence in English, dann eine auf Deutsch, puis une en français, и одна по-русски.",
    "Acme Corp. annual report, page 12: total expenses were 4.2 million.",
]
LONG = [
    "the boundary layer of a flat plate in supersonic flow is laminar " * 10,
    "Heat transfer at the stagnation point, measured in a shock tunnel; " * 30,
    "word " * 250, "word " * 254, "word " * 255, "合同金额" * 120, "\U0001f600 " * 300,
    "Antidisestablishmentarianism and electroencephalography " * 60,
]
MINILM_TEXTS = WORLD + LONG
