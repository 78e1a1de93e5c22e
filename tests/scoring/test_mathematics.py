"""Answers of mathematics: what means the same is the same, and no meaning is dropped."""

import itertools

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from warmup_distill.scoring.mathematics.equality import same_answer

SAME = r"""
lists          : 3,2,1 ; 1,2,3 | 4\text{ and }7 ; 7, 4 | 4, 7, \text{ and } -9 ; -9,4,7
lists of text  : \text{B}, \text{A} ; \text{A}, \text{B} | \text{A, B} ; \text{B}, A
two signs      : \pm\sqrt2 ; -\sqrt{2}, \sqrt 2 | x=\pm 3 ; 3,-3 | 5\pm i ; 5+i, 5-i
four signs     : \pm 1 \pm 2i ; 1+2i, 1-2i, -1+2i, -1-2i
sets           : \{2,1\} ; \{1,2\} | 1,2 ; \{2,1\} | \{5\} ; 5 | S=\{1,2\} ; 2,1
               : \{\} ; \varnothing
tuples         : (20, 100) ; (20,100) | (1,000, 2) ; (1000, 2) | (3,4),(1,2) ; (1, 2), (3, 4)
named values   : y=2,x=1 ; x=1,y=2 | 1,2 ; x=1,y=2 | x=2,x=1 ; 1,2 | (x,y)=(1,2) ; (1,2)
intervals      : [3,\infty)\cup(-\infty,1] ; (-\infty,1]\cup[3,\infty) | (−∞, 3) ; (-\infty,3)
inequalities   : -2\le x\le 8 ; [-2,8] | 5<x ; x>5 | x>5 ; (5,\infty) | x\in[1,2] ; [1,2]
two of them    : x<2 \text{ or } x>5 ; (-\infty,2)\cup(5,\infty) | \{x : x>3\} ; (3,\infty)
all but one    : x\neq 2 ; (-\infty, 2) \cup (2, \infty) | \mathbb{R} ; (-\infty,\infty)
matrices       : \begin{bmatrix}1&2\\3&4\end{bmatrix} ; \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
their cells    : \begin{pmatrix}1/2\\50\%\end{pmatrix} ; \begin{pmatrix}\frac12\\ .5\end{pmatrix}
arrays         : (\begin{array}{cc}1&2\\3&4\end{array}) ; \begin{matrix}1&2\\3&4\end{matrix}
percentages    : 50\% ; \frac{1}{2} | 50\% ; 0.5 | 50 \text{ percent} ; 50 | 5000\% ; 50
equations      : 2x+3=y ; y=2x+3 | x-5=0 ; x=5 | -x^2-y^2+1=0 ; x^2+y^2=1
what they state: x=5 ; 5 | f(x)=2x+1 ; 2x+1 | P(A)=\frac12 ; 1/2 | x=\frac{10}{4}=2.5 ; \frac52
true equations : 2+3=5 ; 5 | = 5 ; 5 | x \approx 3.14 ; 3.14 | AB=5 ; 5 | \text{Area}=5 ; 5
units          : 5\,\text{cm}^2 ; 5 | 5 cm ; 5 | 18\text{ dollars} ; \$18 | 5\ \mathrm{m/s} ; 5
their spellings: 5\text{ square cm} ; 5\text{ cm}^2 | 60 \text{ mph} ; 60\text{ miles/hour}
fractions      : 5 \frac{\text{m}}{\text{s}} ; 5 | 5\text{ ft} ; 5 feet
               : 7^\circ ; 7\text{ degrees}
large units    : 5 \text{ million} ; 5,000,000 | 3 \text{ dozen eggs} ; 36
thousands      : 10\,000 ; 10000 | 10\ 000 ; 10000 | 10 000 ; 10{,}000 | 10,\!000 ; 10,000
more of them   : 1,234,567.5 ; 1234567.5 | -1,000 ; -1000 | 1~000 ; 1000
               : 1{,}000{,}000 ; 1000000
ambiguous      : 80, 120 ; 80,120 | 120,80 ; 80,120 | 80120 ; 80,120
angles         : 90^\circ ; 90 | 90^\circ ; \frac{\pi}{2} | \sin 60^\circ ; \cos 30^{\circ}
numbers        : .5 ; \frac12 | 0.\overline{3} ; \frac13 | 0.1\overline{6} ; 1/6 | 007 ; 7
               : 1e-3 ; 0.001
mixed numbers  : 1\frac{3}{4} ; 1.75 | 2 1/2 ; \frac52 | -1\frac12 ; -1.5
approximations : 3.1416 ; \pi | 33.33 ; \frac{100}{3} | 0.3333 ; \frac13
roots          : \sqrt{12} ; 2\sqrt3 | \frac{2}{\sqrt{2}} ; \sqrt 2 | \sqrt[3]{-8} ; -2
               : \sqrt{3+2\sqrt2} ; 1+\sqrt2
formulas       : (x+1)^2 ; x^2+2x+1 | a(b+c) ; ac+ab | x^2\frac{1}{3} ; \frac{x^2}{3}
               : 2^{x+1} ; 2\cdot 2^x
functions      : 2\sin x\cos x ; \sin 2x | \log_2 8 ; 3 | \ln x^2 ; 2\ln x
               : \sin^{-1} 1 ; \frac{\pi}{2}
constants      : e^{i\pi} ; -1 | 5! ; 120 | \binom{5}{2} ; 10 | \lfloor 3.7 \rfloor ; 3
               : \left|{-3}\right| ; 3
exact          : \frac{1}{2005!\cdot 2006} ; \frac{1}{2006!} | 2^{3000} ; 4^{1500}
               : 9^{9^{9^9}} ; 9^{9^{9^{9}}}
unknown to us  : \sum_{k=1}^{n} k ; \sum_{k=1}^n k | \max(1,2) ; \max (1, 2)
texts          : \text{North} ; north | \text{(A)} ; A | (\text{E}) ; E
               : \text{4:30 p.m.} ; 4:30 \text{ PM}
Unicode        : ½ ; 0.5 | x² ; x^2 | x¹⁰ ; x^{10} | 2⅞ ; 2.875 | x₁ ; x_1 | π/2 ; \frac{\pi}{2}
               : １２ ; 12 | ٥ ; 5 | 2×3 ; 6
"""
DIFFERENT = r"""
commas         : 12 ; 1,2 | 1,23 ; 123 | 100,200 ; 200,100 | 1\,2 ; 12
lists          : \text{A}, \text{C} ; \text{A}, \text{B} | 1,2 ; 1,2,3 | 1,2,2 ; 1,2 | 1 ; 1,2
two signs      : 5+\sqrt2 ; 5\pm\sqrt2 | x=\pm 3 ; 3
brackets       : \frac{12}{3} ; \frac{1}{23} | (1,2) ; [1,2] | (1,2] ; [1,2] | (1,2) ; 1,2
               : [1,2] ; \{1,2\}
order          : (2,1) ; (1,2) | (1,2),(4,3) ; (3,4),(1,2) | 1:2 ; 2:1 | 9:24 ; 9:25
named values   : x=2,y=1 ; x=1,y=2 | 2,1 ; x=1,y=2 | y=5 ; x=5 | y>5 ; x>5
sides          : 2x=10 ; 5 | x+1=5 ; 5 | |x|=5 ; 5 | 2x=10 ; x=5 | 2+3=6 ; 6
equations      : x^2+y^2=1 ; x^2-y^2=1 | y=2x+3 ; y=3x+2 | 1 < 2 ; 1 < 3 | x<3 ; x\le 3
intervals      : (-\infty,1)\cup[3,\infty) ; (-\infty,1]\cup[3,\infty) | -2\le x<8 ; [-2,8]
matrices       : \begin{pmatrix}1&2\\3&4\end{pmatrix} ; \begin{pmatrix}1&2&3&4\end{pmatrix}
their cells    : \begin{pmatrix}-1&2\end{pmatrix} ; \begin{pmatrix}1&-2\end{pmatrix}
columns, rows  : \begin{pmatrix}1\\2\end{pmatrix} ; \begin{pmatrix}1&2\end{pmatrix}
determinants   : \begin{vmatrix}1&2\\3&4\end{vmatrix} ; \begin{pmatrix}1&2\\3&4\end{pmatrix}
hundreds       : 10 ; 1000 | 0.18 ; 18 | 50 ; 0.5 | 0.5\% ; 0.5 | 5\% ; 50\%
close numbers  : 10001 ; 10000 | 18.001 ; 18 | 3.14 ; \pi | 22/7 ; \pi | .00006781 ; .0000678
tiny ones      : \frac{1}{2006!} ; \frac{1}{2004!} | \frac{1}{2006!} ; 0 | x+10^{-99} ; x
large ones     : 2^{4000} ; 2^{4000}+1 | \sqrt{10^{40}+1} ; 10^{20} | 9^{9^{9^9}} ; 9^{9^{9^8}}
bases          : 52_8 ; 52_9 | 52 ; 52_8
letters        : 3R^2 ; 3r^2 | x' ; x | f'(x) ; f(x) | \overline{CD} ; \overline{AB} | x_1 ; x_2
functions      : \log x ; \ln x | \cos 13^\circ ; \cos 13 | f(x+1) ; f(x)+1 | \sqrt{x^2} ; x
formulas       : \sqrt{a^2+b^2} ; a+b | \frac{a}{b} ; \frac{b}{a} | -5 ; 5
               : 1\frac12 ; \frac{11}{2}
unknown to us  : \sum_{k=1}^{n} k ; \sum_{k=1}^m k
units          : 5\text{ m} ; 5\text{ cm} | 5\text{ cents} ; \$5 | €5 ; \$5
               : 5\text{ cm}^2 ; 5\text{ cm}^3 | 5\text{ kN} ; 5\text{ N} | 5^\circ ; 5\text{ rad}
directions     : 5\text{ east} ; 5\text{ west} | 3\text{ more} ; 3\text{ less}
bounds         : \ge 5 ; \le 5 | >5 ; 5 | \ge 5 ; 5
logic          : p\land q ; p\lor q | p\wedge q ; p\vee q
going on       : 1,2,3,\ldots ; 1,2,3 | 1,2,3,... ; 1,2,3
one digit      : \sqrt23 ; \sqrt{23}
large units    : 5 \text{ million} ; 5
texts          : north ; thorn | 10\text{ a.m.} ; 10\text{ p.m.} | \text{(A)} ; B | no ; yes
words of doubt : \text{at least } 5 ; 5 | 5 \text{ or more} ; 5 | \text{not } 5 ; 5
"""


def pairs(table: str) -> list[tuple[str, str]]:
    found = []
    for line in table.strip().splitlines():
        for pair in line.partition(": ")[2].split(" | "):
            one, _, other = pair.partition(" ; ")
            found.append((one.strip(), other.strip()))
    return found


@pytest.mark.parametrize(("one", "other"), pairs(SAME))
def test_what_means_the_same_is_the_same_both_ways(one: str, other: str) -> None:
    assert same_answer(one, other) and same_answer(other, one)


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_what_means_something_is_not_dropped(one: str, other: str) -> None:
    assert not same_answer(one, other) and not same_answer(other, one)


def test_every_answer_is_itself() -> None:
    for answer in itertools.chain(*pairs(SAME), *pairs(DIFFERENT)):
        assert same_answer(answer, answer), answer


x, y = sympy.symbols("x y")
factors = st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.integers(-4, 4)).map(
    lambda c: c[0] * x + c[1] * y + c[2] * sympy.sqrt(2)
)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(factors, min_size=1, max_size=3), below=st.integers(1, 9))
def test_formulas_that_sympy_expands_stay_the_same_and_differ_from_the_next(
    parts: list[sympy.Expr], below: int
) -> None:
    product = sympy.prod(parts) / below
    written, expanded = sympy.latex(product), sympy.latex(sympy.expand(product))
    assert same_answer(written, expanded)
    assert not same_answer(f"{written} + 1", expanded)


@pytest.mark.parametrize(
    "part", ["{", "(", "[", "\\{", "\\frac", "\\sin", "!", "-", "1,", "x^", "|", "a.",
     "\\begin{pmatrix}"],
)  # fmt: skip
def test_deep_and_long_answers_are_compared_and_only_the_same_is_the_same(part: str) -> None:
    # 3,000 levels are more than Python's recursion holds; 30,000 are too many for anything that
    # looks at all of them from each.
    for count in (3_000, 30_000):
        assert same_answer(part * count, part * count)
        assert not same_answer(part * count, "5")
    assert not same_answer("(" * 3000 + "5" + ")" * 3000, "(" * 3000 + "6" + ")" * 3000)


@pytest.mark.parametrize(
    "answer",
    ["9^{9^{9^9}}", "10000!!!", "e^{e^{e^{e^{10}}}}", "\\sin 10^{5000}", "\\frac{1}{0}", "0^{-1}",
     "\\binom{10^9}{5}", "*".join(["3^{9999}/2^{15000}*2^{15000}/3^{9999}"] * 60)],
)  # fmt: skip
def test_values_that_are_too_large_or_none_equal_nothing_else(answer: str) -> None:
    assert not same_answer(answer, "3")
    assert same_answer(answer, answer)
