"""Synthetic customers that resemble the published cross-sell data: as many as asked for, without a download.

The constants below make one world, whose shares and rates are those of the published 381,109 customers in round
figures; how frequent single regions and channels are, and what they do, is a random draw and describes no real place.
Row i depends on the seed and on i alone: a shorter run is the start of a longer one, whatever the batches, and another
seed draws other customers from the same world. Arithmetic is float64 and premiums are whole, so that the last digits of
a processor's ``exp`` change nothing; only another numpy might draw otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from vehins.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]
    Codes = npt.NDArray[np.integer]

WORLD = 251  # seeds the draw of regions and channels: this one gives the main codes mild effects
BLOCK = 50_000  # rows drawn together: they fit a processor's cache, and fill the default batch exactly

GENDERS = ("Female", "Male")
DAMAGES = ("No", "Yes")
VEHICLE_AGES = ("< 1 Year", "1-2 Year", "> 2 Years")

# By vehicle age, in the order of VEHICLE_AGES.
VEHICLE_SHARES = (0.432, 0.526, 0.042)  # published
AGE_LAWS = ((19.5, 24.8, 3.4), (26.5, 49.7, 13.6), (29.5, 55.2, 11.2))  # start, mean, sd: of all 38.82, 15.51
MALE_SHARES = (0.445, 0.610, 0.640)  # 54.08% of all
DAMAGE_SHARES = (0.29, 0.64, 0.999)  # old vehicles are damaged vehicles
INSURED_SHARES = ((0.90, 0.08), (0.825, 0.046), (0.40, 0.002))  # without and with damage: 45.82% of all
REGION_SHARES = ((0.11,), (0.41,), (0.41,))  # of MAIN_REGIONS: the largest
CHANNEL_SHARES = ((0.75, 0.03, 0.04), (0.05, 0.35, 0.31), (0.05, 0.35, 0.31))  # of MAIN_CHANNELS: most rows

AGES, VINTAGES = (20, 85), (10, 299)  # published, both ends included; vintages are uniform
REGIONS, CHANNELS = 53, 155  # published: the codes 0 to 52, and so many of the codes 1 to 163
MAIN_REGIONS, MAIN_CHANNELS = (28,), (152, 26, 124)  # published, the largest first
NO_LICENCE = 0.028  # share at the age of 80; falls with the cube of the years above 30, to 0.21% of all

PREMIUM_SPIKE = 0.17  # published share of rows at the least premium
PREMIUM_RANGE = (2_630, 540_165)  # published
# Log of the other premiums, normal + exponential + the region's: the published quartiles, mean and sd, and a long tail.
PREMIUM_CENTRE, PREMIUM_SD, PREMIUM_TAIL, REGION_PREMIUM_SD = 10.24, 0.186, 0.210, 0.10

# Log-odds of a response. Nearly nobody who is insured already, or has no damage, responds (published).
DAMAGE_EFFECTS = ((-2.0, 0.0), (-6.5, -3.5))  # without and with damage, first of the uninsured, then of the insured
VEHICLE_EFFECTS = (-0.72, -0.98, -0.75)  # set so that 4.4%, 17.4% and 29.4% respond, as published
AGE_EFFECTS = ((20, -1.6), (33, 0.3), (48, 0.0), (80, -1.2))  # at an age: few of the young and the old respond
CHANNEL_EFFECT_SD, REGION_EFFECT_SD = 0.40, 0.25
MALE_EFFECT, NO_LICENCE_EFFECT, PREMIUM_EFFECT = 0.05, -0.7, 0.05  # the last per unit of log premium


@dataclass(frozen=True, slots=True)
class _World:
    """What the constants and the draw of regions and channels amount to, as tables to look up.

    The first four have 65,536 columns: 16 random bits choose one, and there is the value; the first has one row, the
    others a row per vehicle age. Effects are by age or code.
    """

    vehicles: Codes
    ages: Codes
    regions: Codes
    channels: Codes
    age_effects: Floats
    region_effects: Floats
    region_premiums: Floats
    channel_effects: Floats


def batches(rows: int, seed: int, batch_rows: int = 250_000) -> Iterator[pl.DataFrame]:
    """Draw synthetic customers, in batches that hold the memory flat.

    Args:
        rows: how many in all, 0 or more.
        seed: which customers, 0 or more.
        batch_rows: rows of each batch but the last, at least 1.

    Returns:
        Frames with the columns and types of the published file (String, Int64 and Float64; ``id`` counts from 1).

    Raises:
        UsageError: at once, for a number below its least value.
    """
    for name, value, least in (("rows", rows, 0), ("seed", seed, 0), ("batch_rows", batch_rows, 1)):
        if value < least:
            detail, hint = f"{name} is {value:,}.", f"Set {name} to {least} or more."
            raise UsageError("The demo source cannot draw such customers", detail=detail, hint=hint)
    return (_rows(seed, start, min(start + batch_rows, rows)) for start in range(0, rows, batch_rows))


def true_probability(customers: pl.DataFrame) -> Floats:
    """The probability with which each row of a batch is given Response 1: the best that any model can know.

    Args:
        customers: rows of `batches`; id, Vintage and Response are not looked at.

    Returns:
        Shape (rows,), above 0 and below 1.
    """
    import numpy as np
    import polars as pl

    world = _world()
    vehicle = customers["Vehicle_Age"].cast(pl.Enum(VEHICLE_AGES)).to_physical().to_numpy()
    damage = (customers["Vehicle_Damage"] == "Yes").to_numpy().view(np.uint8)
    logit = np.array(DAMAGE_EFFECTS)[customers["Previously_Insured"].to_numpy(), damage]
    logit += np.array(VEHICLE_EFFECTS)[vehicle]
    logit += world.age_effects[customers["Age"].to_numpy()]
    logit += world.region_effects[customers["Region_Code"].to_numpy().astype(np.int64)]
    logit += world.channel_effects[customers["Policy_Sales_Channel"].to_numpy().astype(np.int64)]
    logit += MALE_EFFECT * (customers["Gender"] == "Male").to_numpy()
    logit += NO_LICENCE_EFFECT * (1 - customers["Driving_License"].to_numpy())
    logit += PREMIUM_EFFECT * (np.log(customers["Annual_Premium"].to_numpy()) - PREMIUM_CENTRE)
    probability: Floats = 1 / (1 + np.exp(-logit))
    return probability


def _rows(seed: int, start: int, stop: int) -> pl.DataFrame:
    """Rows ``start`` to ``stop`` (not included), cut out of the blocks that hold them."""
    import polars as pl

    first = start // BLOCK
    blocks = [_block(seed, number) for number in range(first, -(-stop // BLOCK))]
    return pl.concat(blocks).slice(start - first * BLOCK, stop - start)


@lru_cache(maxsize=1)  # two batches that share a block follow each other
def _block(seed: int, number: int) -> pl.DataFrame:
    """Block ``number`` of `BLOCK` customers, from random numbers of its own."""
    import numpy as np
    import polars as pl

    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))
    customers = _customers(rng, number * BLOCK + 1)
    response = rng.random(BLOCK) < true_probability(customers)
    return customers.with_columns(pl.Series("Response", response.astype(np.int64)))


def _customers(rng: np.random.Generator, first_id: int) -> pl.DataFrame:
    """Draw a block without its responses: the vehicle's age first, the rest given that and what was drawn before."""
    import numpy as np
    import polars as pl

    world = _world()
    vehicle = _pick(rng, world.vehicles, np.zeros(BLOCK, dtype=np.uint8))
    age, region = _pick(rng, world.ages, vehicle), _pick(rng, world.regions, vehicle)
    damage = _flip(rng, np.array(DAMAGE_SHARES)[vehicle])
    no_licence = NO_LICENCE * ((np.arange(AGES[1] + 1) - 30).clip(0) / 50) ** 3
    columns = {
        "id": np.arange(first_id, first_id + BLOCK),
        "Gender": _words(GENDERS, _flip(rng, np.array(MALE_SHARES)[vehicle])),
        "Age": age.astype(np.int64),
        "Driving_License": 1 - _flip(rng, no_licence[age]),
        "Region_Code": region.astype(np.float64),
        "Previously_Insured": _flip(rng, np.array(INSURED_SHARES)[vehicle, damage]),
        "Vehicle_Age": _words(VEHICLE_AGES, vehicle),
        "Vehicle_Damage": _words(DAMAGES, damage),
        "Annual_Premium": _premium(rng, region),
        "Policy_Sales_Channel": _pick(rng, world.channels, vehicle).astype(np.float64),
        "Vintage": rng.integers(*VINTAGES, BLOCK, endpoint=True),
    }
    return pl.DataFrame(columns)


def _pick(rng: np.random.Generator, table: Codes, row: Codes) -> Codes:
    """Draw one value per entry of ``row``, from that row of a table of `_World`."""
    import numpy as np

    picked: Codes = table[row, rng.integers(0, 1 << 16, BLOCK, dtype=np.uint16)]
    return picked


def _flip(rng: np.random.Generator, chance: Floats) -> Codes:
    """Draw 1 with each of these chances, else 0."""
    import numpy as np

    return (rng.random(BLOCK) < chance).astype(np.int64)


def _words(words: tuple[str, ...], codes: Codes) -> pl.Series:
    """The word for each code."""
    import numpy as np
    import polars as pl

    return pl.Series(words).gather(codes.astype(np.uint32))


def _premium(rng: np.random.Generator, region: Codes) -> Floats:
    """Annual premiums in whole units of currency: the spike, or a long-tailed law around the region's level."""
    import numpy as np

    log = PREMIUM_CENTRE + PREMIUM_SD * rng.standard_normal(BLOCK) + PREMIUM_TAIL * rng.standard_exponential(BLOCK)
    usual = np.rint(np.exp(log + _world().region_premiums[region])).clip(*PREMIUM_RANGE)
    return np.where(rng.random(BLOCK) < PREMIUM_SPIKE, PREMIUM_RANGE[0], usual)


@cache
def _world() -> _World:
    """Make the tables, once per process and the same in every process."""
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(WORLD))
    regions = [*MAIN_REGIONS, *rng.permutation([code for code in range(REGIONS) if code not in MAIN_REGIONS])]
    channels = [*MAIN_CHANNELS, *rng.permutation([code for code in range(1, 164) if code not in MAIN_CHANNELS])]
    return _World(
        vehicles=_draw_table(range(3), [np.array(VEHICLE_SHARES)]),
        ages=_draw_table(range(AGES[0], AGES[1] + 1), [_age_law(*law) for law in AGE_LAWS]),
        regions=_draw_table(regions, [_with_tail(shares, REGIONS) for shares in REGION_SHARES]),
        channels=_draw_table(channels, [_with_tail(shares, CHANNELS) for shares in CHANNEL_SHARES]),
        age_effects=np.interp(np.arange(AGES[1] + 1), *np.array(AGE_EFFECTS).T),
        region_effects=rng.normal(0, REGION_EFFECT_SD, REGIONS),
        region_premiums=rng.normal(0, REGION_PREMIUM_SD, REGIONS),
        channel_effects=rng.normal(0, CHANNEL_EFFECT_SD, 164),
    )


def _draw_table(values: Sequence[int], laws: list[Floats]) -> Codes:
    """A table of `_World`: a row per law, in which each value fills as many columns as its probability says."""
    import numpy as np

    uniform = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return np.array(values, dtype=np.uint8)[[np.searchsorted(np.cumsum(law), uniform) for law in laws]]


def _age_law(start: float, mean: float, sd: float) -> Floats:
    """Probabilities of `AGES`, as those of ``start`` plus a gamma variable that makes up mean and sd, cut off at 85."""
    import numpy as np

    years = (np.arange(AGES[0], AGES[1] + 1) - start).clip(0)
    density = years ** (((mean - start) / sd) ** 2 - 1) * np.exp(-years * (mean - start) / sd**2)
    law: Floats = density / density.sum()
    return law


def _with_tail(shares: tuple[float, ...], values: int) -> Floats:
    """These shares, and what they leave of 1 for the other values by Zipf and Mandelbrot: as (rank + 3) ** -1.5."""
    import numpy as np

    tail = (np.arange(1, values - len(shares) + 1) + 3.0) ** -1.5
    return np.append(shares, tail * ((1 - sum(shares)) / tail.sum()))
