"""How reasons and notes write powers."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def superscript(power: int) -> str:
    """A whole exponent.

    >>> superscript(-26)
    '⁻²⁶'
    """
    return str(power).translate(_SUPERSCRIPTS)


def rough(value: float) -> str:
    """Three digits, and a power of ten where a size takes one.

    >>> rough(1e-8), rough(2.5e6), rough(0.125)
    ('10⁻⁸', '2.5 × 10⁶', '0.125')
    """
    if 1e-4 <= abs(value) < 1e4:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    power = "10" + superscript(int(exponent))
    return power if float(mantissa) == 1 else f"{float(mantissa):g} × {power}"


def decay(power: float) -> str:
    """A decay with depth.

    >>> decay(1.0), decay(2.0), decay(0.5), decay(2 / 3)
    ('1/ℓ', '1/ℓ²', '1/√ℓ', '1/ℓ^0.667')
    """
    if power == 0.5:
        return "1/√ℓ"
    if float(power).is_integer():
        return "1/ℓ" + (superscript(int(power)) if power != 1 else "")
    return f"1/ℓ^{power:.3g}"
