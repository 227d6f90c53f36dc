"""Criteria: what a unit is worth. A file a quantity, a small function a criterion.

High scores are kept. *Units*: "weights" are units of any kind that have weights in their slices;
"gates" are units whose activations can be seen (rows, channels, heads, MLP channels, but not single
elements), and for `taylor`, `taylor_absolute` and `taylor_squared` states. Where a criterion is not
defined, the score is NaN. *Distribution*: whether the score is a mean over samples, with standard
errors and tests. Formulas and papers are in `CRITERIA`.

==================  ==================================  ===========  =========  ============
criterion           score of a unit                     units        needs      distribution
==================  ==================================  ===========  =========  ============
random              a uniform number                    all          nothing    no
l1                  sum of abs(w)                       weights      nothing    no
l2                  root of the sum of w^2              weights      nothing    no
lamp                w^2 over the larger ones            weights      nothing    no
geometric_median    distances to the others             weights [1]  nothing    no
fermat              distance to the Fermat point        weights [1]  nothing    no
bn_scale            abs(gamma)                          batch norm   nothing    no
bn_shift            abs(beta)                           batch norm   nothing    no
synflow             abs(theta) x flow of ones           weights      a shape    no
activation          mean abs(activation)                gates        inputs     yes
apoz                - share of zeros                    gates        inputs     yes
hrank               mean rank of the map                maps         inputs     yes
entropy             entropy of pooled activations       gates        inputs     no [2]
wanda               abs(w) x rms of its input           weights      inputs     no [3]
taylor              abs(mean of activation x gradient)  gates        loss       yes
taylor_absolute     mean abs(activation x gradient)     gates        loss       yes
taylor_squared      mean of its square                  gates        loss       yes
gradient_norm       mean norm of the gradient           gates        loss       yes
taylor_weight       theta x gradient                    parameters   loss       no [3]
snip                share of abs(w x gradient)          weights      loss       no [3]
grasp               theta x H g                         parameters   loss [4]   no [3]
obd                 theta^2 x Fisher / 2                parameters   loss       no [3]
obd_ggn             theta^2 x Gauss-Newton / 2          parameters   loss [5]   no [3]
last                H-infinity norm^2, layers scaled    states       nothing    no
hinf                H-infinity norm^2                   states       nothing    no
aire                H2 norm^2, layers scaled            states       nothing    no
state_magnitude     abs(lambda)^2 ||b||^2 ||c||^2       states       nothing    no
state_energy        ||c||^2 mean abs(x)^2, scaled       states       inputs     yes
==================  ==================================  ===========  =========  ============

1. Not for single elements.
2. Not a mean over samples: resample the data to see how sure it is.
3. Depends on the data through means that belong to parameters; its spread is not collected.
4. Three passes over the data.
5. Cross entropy or squared error.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.calibrate`, `sigmine_nn.scores`.
"""

from __future__ import annotations

from . import (
    activation,
    curvature,
    flow,
    geometry,
    hybrid,
    magnitude,
    normalisation,
    random,
    state_space,
    taylor,
)
from .base import CRITERIA, Criterion, Scoring, criterion, get_criterion

__all__ = [
    "CRITERIA",
    "Criterion",
    "Scoring",
    "activation",
    "criterion",
    "curvature",
    "flow",
    "geometry",
    "get_criterion",
    "hybrid",
    "magnitude",
    "normalisation",
    "random",
    "state_space",
    "taylor",
]
