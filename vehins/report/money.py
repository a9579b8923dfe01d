"""What a list of calls costs and brings, and where the list should end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vehins.artifacts.evaluation import Campaign, Profit
from vehins.report import words
from vehins.report.blocks import Figure, Figures, Key, Section, Table
from vehins.report.judged import Judged
from vehins.report.svg import Axis, Point, Series, plot


def section(models: Sequence[Judged]) -> Section | None:
    """The profit curve with the cutoff, and what other lists would bring."""
    priced = [model for model in models if model.profit is not None]
    if not priced:
        return None
    drawn = [model for model in priced if model.curves is not None]
    figures = [_curve(drawn)] if drawn else []
    return Section("money", "What it is worth", [Figures([*figures, *_tables(priced)])], _lead(priced))


def _lead(models: Sequence[Judged]) -> str:
    """The prices; two runs may have different ones."""
    said = dict.fromkeys(_prices(model.profit) for model in models if model.profit)
    return f"{' Or: '.join(said)} All on the customers of the test side, in the currency of the settings."


def _prices(profit: Profit) -> str:
    limit = "as many as wanted" if profit.capacity is None else f"at most {profit.capacity_here:,} of these customers"
    cost, brings = words.amount(profit.contact_cost), words.amount(profit.sale_value)
    return f"A call costs {cost} and a sale brings {brings}; {limit} can be called."


def _share(model: Judged) -> float:
    assert model.profit is not None  # noqa: S101 - narrows the type
    return model.profit.model.share


def _curve(models: Sequence[Judged]) -> Figure:
    title = "Profit by the number of calls"
    text = " ".join(words.sentence(_told(model)) for model in models)
    x = Axis("Customers called, best first (% of all)", words.axis_percent, (0, 1), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    lines = [Series(m.name, m.style, _points(m)) for m in reversed(models)]
    heights = [point[1] for line in lines for point in line.points if point]
    span = (min(0.0, *heights), max(0.0, *heights))
    y = Axis("Profit (currency of the settings)", words.short_amount, span)
    randoms = [_random(model) for model in models[:1]]
    marks = [Series(_cutoff(m), _mark(m, models), [(_share(m), span[0]), (_share(m), span[1])]) for m in models]
    dots = [_dot(model) for model in models]
    svg = plot("profit", title, text, x, y, [*randoms, *marks, *lines, *dots], height=320)
    legend = [*(Key(m.style, m.name) for m in models), Key("reference", "calling at random")]
    legend += [Key(_mark(m, models), _cutoff(m) + (f" of {m.name}" if len(models) > 1 else "")) for m in models]
    return Figure("profit", title, text, svg, legend)


def _cutoff(model: Judged) -> str:
    assert model.profit is not None  # noqa: S101 - narrows the type
    return f"cutoff {words.percent(model.profit.cutoff)}"


def _mark(model: Judged, models: Sequence[Judged]) -> str:
    """The style of a model's cutoff: of its colour where there are several."""
    return f"{model.style} mark" if len(models) > 1 else "mark"


def _points(model: Judged) -> list[Point | None]:
    assert model.curves is not None  # noqa: S101 - narrows the type
    return list(zip(model.curves.profit.x, model.curves.profit.y, strict=True))


def _random(model: Judged) -> Series:
    assert model.profit is not None  # noqa: S101 - narrows the type
    return Series("calling at random", "reference", [(0, 0), (1, model.profit.everybody.profit)])


def _dot(model: Judged) -> Series:
    assert model.profit is not None  # noqa: S101 - narrows the type
    own = model.profit.model
    return Series(f"list of {model.name}", model.style, [(own.share, own.profit)], "dots", [_told(model)])


def _told(model: Judged) -> str:
    """The list of a model in a sentence."""
    assert model.profit is not None  # noqa: S101 - narrows the type
    own = model.profit.model
    return (
        f"{model.name} with its cutoff at {words.percent(model.profit.cutoff)} calls {words.count(own.customers)} "
        f"customers ({words.percent(own.share)}) and {words.earns(own.profit)}; calling everybody "
        f"{words.earns(model.profit.everybody.profit)}"
    )


def _tables(models: Sequence[Judged]) -> Iterator[Table]:
    """The lists compared: of models that met on the same customers in one table, else in one for each."""
    own = [(_list_name(model), model.profit.model) for model in models if model.profit]
    found = [model.profit for model in models if model.profit]
    if all(profit.everybody == found[0].everybody for profit in found):
        yield _table("Lists compared", [*own, *_others(found[0])])
        return
    for (name, campaign), profit in zip(own, found, strict=True):
        yield _table(f"Lists compared: {name}", [(name, campaign), *_others(profit)])


def _list_name(model: Judged) -> str:
    return words.sentence(f"{model.name}, from its cutoff on").rstrip(".")


def _others(profit: Profit) -> list[tuple[str, Campaign]]:
    return [
        ("The best list, known afterwards", profit.best),
        ("As many at random", profit.random),
        ("Everybody", profit.everybody),
        ("Nobody", profit.nobody),
    ]


def _table(caption: str, lists: Sequence[tuple[str, Campaign]]) -> Table:
    rows = [(name, *_campaign(campaign)) for name, campaign in lists]
    return Table(caption, ("List", "Calls", "Sales", "Profit"), rows, frozenset({1, 2, 3}), stacks=True)


def _campaign(found: Campaign) -> tuple[str, ...]:
    low, high = found.profit_low, found.profit_high
    interval = "" if low is None or high is None else f" ({words.amount(low)} to {words.amount(high)})"
    return words.count(found.customers), words.count(found.sales), words.amount(found.profit) + interval
