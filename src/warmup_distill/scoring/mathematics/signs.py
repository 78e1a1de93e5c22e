"""Commands and characters of LaTeX: which mean the same, and which only set the type."""

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν",
    "xi": "ξ", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ",
    "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip

FUNCTIONS = (
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan",
    "log", "ln", "exp",
)  # fmt: skip

NAMES = {
    "pi": "\\pi", "sqrt": "\\sqrt", "inf": "\\infty", "infty": "\\infty",
    "infinity": "\\infty", "and": ",", "or": ",",
}  # fmt: skip
"""What people type without a backslash, and what stands between the items of a list."""

SHORT_UNITS = (
    "cm", "mm", "km", "ft", "in", "kg", "mg", "gm", "lb", "oz", "hr", "mi", "yd", "ml", "cc", "am",
    "pm",
)  # fmt: skip
"""Units that are typed without `\\text`."""

SHORT_WORDS = ("yes", "no")
"""Words that look like products of letters."""

CHARACTERS = str.maketrans(
    {character: f"\\{name} " for name, character in GREEK.items()}
    | {
        "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "∅": "\\emptyset ", "∪": "\\cup ",
        "∩": "\\cap ", "∈": "\\in ", "±": "\\pm ", "∓": "\\mp ", "∠": "\\angle ",
        "△": "\\triangle ", "ℝ": "\\mathbb{R} ", "≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=",
        "≠": "!=", "≈": "=", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "⁄": "/",
        "−": "-", "–": "-", "—": "-", "º": "°", "˚": "°", "′": "'", "’": "'", "⟨": "\\langle ",
        "⟩": "\\rangle ", "，": ", ", "、": ", ", "；": "; ", "：": ":", "（": "(", "）": ")",
        "％": "%", "＝": "=",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "",
    }
)  # fmt: skip
"""What people type instead of a command."""

RENAMED = {
    "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\dbinom": "\\binom",
    "\\tbinom": "\\binom", "\\cdot": "*", "\\times": "*", "\\ast": "*", "**": "^", "\\div": "/",
    "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "\\ge": ">=", "\\geq": ">=",
    "\\geqslant": ">=", "\\ne": "!=", "\\neq": "!=", "\\lt": "<", "\\gt": ">", "==": "=",
    "\\approx": "=", "\\simeq": "=", "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[",
    "\\rbrack": "]", "\\lparen": "(", "\\rparen": ")", "\\lvert": "|", "\\rvert": "|",
    "\\vert": "|", "\\mid": "|", "\\$": "$", "\\%": "%", "\\colon": ":",
    "\\varnothing": "\\emptyset", "\\degree": "°", "\\wedge": "\\land", "\\lor": ",",
    "\\dots": "\\ldots", "\\cdots": "\\ldots",
    "\\vee": ",", "\\bigcup": "\\cup",
    "\\overrightarrow": "\\vec", "\\euro": "€", "\\pounds": "£",
}  # fmt: skip
"""One token for what means one thing."""

SETS_TYPE = frozenset([
    "\\!", "\\,", "\\;", "\\:", "\\>", "\\ ", "~", "\\quad", "\\qquad", "\\enspace", "\\thinspace",
    "\\left", "\\right", "\\middle", "\\big", "\\Big", "\\bigg", "\\Bigg", "\\bigl", "\\bigr",
    "\\Bigl", "\\Bigr", "\\biggl", "\\biggr", "\\displaystyle", "\\textstyle", "\\scriptstyle",
    "\\limits", "\\nolimits", "\\strut", "\\bf", "\\rm", "\\it", "\\mathrm", "\\mathbf", "\\mathit",
    "\\mathsf", "\\boldsymbol", "\\bm", "\\text", "\\textbf", "\\textit", "\\textrm", "\\mbox",
    "\\boxed", "\\fbox", "\\operatorname",
])  # fmt: skip
"""Tokens without a meaning of their own."""
