"""A thousand varied texts, the same at every run, to compare precisions on.

They are put together from word lists of several languages and scripts, so nothing has to be
fetched: ordinary sentences of 1 to 200 words, numbers, punctuation, code, repeated tokens, mixed
scripts, and texts that are next to empty.
"""

from __future__ import annotations

import random
from typing import Callable, Dict, List

__all__ = ["SEED", "varied_sentences"]

SEED = 20240229
LONGEST = 200  # words

WORDS: Dict[str, str] = {
    "english": (
        "the a of and to in that it was for on with as at by from this have or one had not but "
        "what all were when we there can an your which their said if do will each about how up "
        "out them then she many some so these would other into has more her two like him see "
        "time could no make than first been its who now people my made over did down only way "
        "find use may water long little very after words called just where most know market "
        "government history patient protein temperature judge contract airplane guitar recipe "
        "volcano quantum password refund delivery mortgage election vaccine telescope bicycle "
        "elephant quickly carefully beautiful angry expensive silent electric northern "
    ),
    "german": (
        "der die das und ist nicht mit ein eine auf für von dem sich auch es an werden aus er "
        "hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben nur "
        "Straße Gesundheit Versicherung Fußball Bücher Zug verspätet schön grün"
    ),
    "french": (
        "le la les des et est une un dans que qui pour pas sur avec plus par je ce mais nous "
        "être fait comme tout où très déjà élève forêt château français garçon œuvre"
    ),
    "spanish": (
        "el la de que y en un ser se no haber por con su para como estar tener le lo todo pero "
        "más hacer o poder decir este ir otro ese niño mañana corazón ¿qué? ¡hola! canción"
    ),
    "russian": "и в не на я быть он с что а по это она этот к но они мы весь который город вода",
    "greek": "και το να η του με για από είναι στο που δεν θα τους λόγος θάλασσα ουρανός",
    "arabic": "في من على إلى أن هذا التي كان مع ما لا هو كل بعد يوم مدينة كتاب ماء",
    "hindi": "है के में की से को और यह का पर नहीं एक था लिए पानी शहर किताब",
    "chinese": "我 们 的 是 在 不 了 有 和 人 这 中 大 为 上 个 国 水 山 火 你好 世界 模型",
    "japanese": "これ は の に を た が で て と し れ さ ある いる こと 東京 モデル ありがとう",
    "korean": "이 그 저 것 수 있다 하다 되다 없다 사람 우리 서울 안녕하세요",
    "emoji": "🙂 🚀 ❤️ 👍🏽 🎉 🔥 🤖 ☕ 🇫🇷",
}
CODE = (
    "def f(x): return x ** 2 + 1",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    '{"id": 42, "tags": ["a", "b"], "nested": {"ok": true, "x": null}}',
    "git commit -m 'fix: off-by-one' && make -j4 test",
    "<div class=\"row\"><a href='https://example.com/?q=1&r=2'>x</a></div>",
    "E = m * c^2; \\frac{a}{b} \\leq \\sum_{i=1}^{n} x_i",
    "Traceback (most recent call last): KeyError: 'input_ids'",
)
PUNCTUATION = list(".,;:!?-()[]{}\"'/\\@#$%^&*_+=<>|~`…—“”«»")
TINY = ("", " ", ".", "a", "I", "7", "?", "…", "\t", "的", "é", "ok", "[SEP]", "[MASK]", "a b")


def varied_sentences(count: int = 1000, seed: int = SEED) -> List[str]:
    """``count`` texts of 0 to about 200 words; those of a smaller count begin a larger one."""
    generator = random.Random(seed)  # noqa: S311 - texts, no secrets
    kinds: List[Callable[[random.Random], str]] = [
        _english,
        _english,
        _english,
        _foreign,
        _mixed,
        _numbers,
        _punctuated,
        _code,
        _repeated,
        _tiny,
    ]
    return [kinds[number % len(kinds)](generator) for number in range(count)]


def _length(generator: random.Random) -> int:
    """1 to LONGEST words; half of the texts have at most 14."""
    return round(LONGEST ** generator.random())


def _english(generator: random.Random) -> str:
    words = [generator.choice(WORDS["english"].split()) for _ in range(_length(generator))]
    for position in range(7, len(words), 11):
        words[position] += generator.choice((",", ".", ";", " -", "?"))
    return " ".join(words).capitalize() + "."


def _foreign(generator: random.Random) -> str:
    language = generator.choice(sorted(WORDS))
    return " ".join(generator.choice(WORDS[language].split()) for _ in range(_length(generator)))


def _mixed(generator: random.Random) -> str:
    everything = [word for language in sorted(WORDS) for word in WORDS[language].split()]
    return " ".join(generator.choice(everything) for _ in range(_length(generator)))


def _numbers(generator: random.Random) -> str:
    shapes: List[Callable[[], str]] = [
        lambda: str(generator.randint(0, 99)),
        lambda: "%.3f" % generator.gauss(0, 1000),
        lambda: "%d-%02d-%02d" % (generator.randint(1900, 2100), generator.randint(1, 12), 28),
        lambda: "0x%08x" % generator.getrandbits(32),
        lambda: "%d%%" % generator.randint(0, 100),
        lambda: "$%s" % format(generator.randint(0, 10**7), ","),
        lambda: generator.choice(WORDS["english"].split()),
    ]
    return " ".join(generator.choice(shapes)() for _ in range(_length(generator)))


def _punctuated(generator: random.Random) -> str:
    parts = PUNCTUATION + WORDS["english"].split()[:20]
    joint = generator.choice(("", " "))
    return joint.join(generator.choice(parts) for _ in range(_length(generator)))


def _code(generator: random.Random) -> str:
    return " ".join(generator.choice(CODE) for _ in range(generator.randint(1, 12)))


def _repeated(generator: random.Random) -> str:
    word = generator.choice(WORDS["english"].split() + PUNCTUATION + ["的", "ha", "na", "0", "🙂"])
    return " ".join([word] * _length(generator))


def _tiny(generator: random.Random) -> str:
    return generator.choice(TINY) * generator.choice((1, 1, 1, 2, 5))
