"""From the free parameters of a series to the parameters of every spectrum, with derivatives.

Names and order are FSL-MRS's: ``conc_NAA_c_adc`` of a dynamic parameter, ``Phi_0_0_t3`` of one that varies, and
``gamma_0`` of one that is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .configuration import Configuration, configuration_error
from .expressions import NotReadError
from .models import Initial, Model, recognised

__all__ = ["FreeParameter", "Mapping"]

_PER_GROUP = ("eps", "sigma", "gamma")


@dataclass(frozen=True)
class FreeParameter:
    """A free parameter: its name, the kind of parameter it belongs to, its behaviour, and its metabolite or group.

    ``mapped`` is the name of the parameter of the spectra, ``time`` its number in the series where it varies, ``role``
    and ``model`` its name in the model and the model's where it is dynamic.
    """

    name: str
    category: str
    behaviour: str
    member: str | int
    mapped: str
    time: int | None = None
    role: str = ""
    model: str = ""


@dataclass(frozen=True)
class _Dynamic:
    """Parameters of the spectra that follow one model: free parameters ``(n, k)`` to columns ``(n,)``.

    ``initial`` gives the former for a time course, where the configuration has such a function.
    """

    model: Model
    name: str
    free: torch.Tensor
    columns: torch.Tensor
    initial: Initial | None = None


class Mapping:
    """The mapping of a configuration for a series.

    Parameters
    ----------
    configuration : Configuration
    sizes : dict
        Number of parameters of each category, in FSL-MRS's order.
    metabolites : sequence of str
    time_variable : tensor ``(n_times,)`` or ``(n_times, k)``, or dict of such
    n_times : int

    Raises
    ------
    OptionError
        For faults of the configuration.
    """

    def __init__(
        self,
        configuration: Configuration,
        sizes: dict[str, int],
        metabolites: Sequence[str],
        time_variable,
        n_times: int,
    ):
        self.configuration, self.sizes, self.metabolites = configuration, sizes, list(metabolites)
        self.time_variable, self.n_times = time_variable, n_times
        unknown = set(configuration.parameters) - set(sizes)
        if unknown:
            raise configuration.error(
                f"Parameters has {', '.join(map(str, sorted(unknown, key=str)))}, which the spectral model has not",
                f"it has {', '.join(sizes)}",
            )
        self.free = [one for category in sizes for one in self._of_category(category)]
        self.names = [one.name for one in self.free]
        self.mapped_names = [
            f"{category}_{member}" for category, size in sizes.items() for member in self._members(category, size)
        ]
        self.lower, self.upper = self._bounds()
        self._index()
        self._check()

    # -- reading the configuration -------------------------------------------------------------------------------

    def _members(self, category: str, size: int) -> list:
        return self.metabolites if category == "conc" else list(range(size))

    def _of_category(self, category: str) -> list[FreeParameter]:
        """Return the free parameters of one kind of parameter, in FSL-MRS's order."""
        behaviour = self.configuration.parameters.get(category, "fixed")
        members = self._members(category, self.sizes[category])
        nested = isinstance(behaviour, dict) and "dynamic" not in behaviour
        if not nested or category not in ("conc", *_PER_GROUP):
            return self._of_members(category, behaviour, members)
        known = {str(member): member for member in members}
        rest = [member for key, member in known.items() if key not in behaviour]
        free = []
        for key, one in behaviour.items():
            if key == "other":
                free += self._of_members(category, one, rest)
            elif key in known:
                free += self._of_members(category, one, [known[key]])
            else:
                raise self.configuration.error(
                    f"'{key}' of '{category}' is no metabolite or group", f"there are {', '.join(known)} and other"
                )
        missing = [str(member) for member in rest] if "other" not in behaviour else []
        if missing:
            raise self.configuration.error(
                f"'{category}' says nothing of {', '.join(missing)}", "add 'other': and their behaviour"
            )
        return free

    def _of_members(self, category: str, behaviour, members: list) -> list[FreeParameter]:
        if behaviour == "fixed":
            return [FreeParameter(f"{category}_{one}", category, "fixed", one, f"{category}_{one}") for one in members]
        if behaviour == "variable":
            return [
                FreeParameter(f"{category}_{one}_t{time}", category, "variable", one, f"{category}_{one}", time)
                for time in range(self.n_times)
                for one in members
            ]
        if isinstance(behaviour, dict) and isinstance(behaviour.get("dynamic"), str):
            roles = behaviour.get("params")
            if not isinstance(roles, (list, tuple)) or not roles or not all(isinstance(one, str) for one in roles):
                raise self.configuration.error(f"'{category}' has no 'params'", "list the names of the parameters")
            return [
                FreeParameter(
                    f"{category}_{one}_{role}",
                    category,
                    "dynamic",
                    one,
                    f"{category}_{one}",
                    role=role,
                    model=behaviour["dynamic"],
                )
                for one in members
                for role in roles
            ]
        raise self.configuration.error(
            f"'{category}' is {behaviour!r}", "write 'fixed', 'variable' or {'dynamic': name, 'params': [...]}"
        )

    def _bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return lower and upper bounds ``(n_free,)``, infinite where there is none."""
        bounds, used, pairs = self.configuration.bounds, set(), []
        for one in self.free:
            keys = (one.name, one.role if one.behaviour == "dynamic" else one.category)
            key = next((key for key in keys if key in bounds), None)
            low, high = (None, None) if key is None else bounds[key]
            used.add(key)
            pairs.append((-torch.inf if low is None else low, torch.inf if high is None else high))
        extra = sorted(set(bounds) - used)
        if extra:
            raise self.configuration.error(f"Bounds of {', '.join(extra)} belong to no parameter", "remove or rename")
        table = torch.tensor(pairs, dtype=torch.float64)
        return table[:, 0], table[:, 1]

    def _index(self) -> None:
        """Sort free parameters by what they act on, and build the columns that act at every time."""
        column = {name: number for number, name in enumerate(self.mapped_names)}
        self._fixed: list[tuple[int, int]] = []
        variable: dict[tuple[int, int], int] = {}
        dynamic: dict[tuple[str, int], dict[str, list[int]]] = {}
        for number, one in enumerate(self.free):
            if one.behaviour == "fixed":
                self._fixed.append((number, column[one.mapped]))
            elif one.time is not None:
                variable[one.time, column[one.mapped]] = number
            else:
                sets = dynamic.setdefault((one.model, self._n_roles(one)), {})
                sets.setdefault(one.mapped, []).append(number)
        self._variable_columns = sorted({where for _, where in variable})
        self._variable = torch.tensor(
            [[variable[time, where] for where in self._variable_columns] for time in range(self.n_times)],
            dtype=torch.long,
        ).reshape(self.n_times, len(self._variable_columns))
        self._dynamic = [
            _Dynamic(
                self.configuration.model(name, n_roles),
                name,
                torch.tensor(list(sets.values())),
                torch.tensor([column[mapped] for mapped in sets]),
                self.configuration.initial(name),
            )
            for (name, n_roles), sets in dynamic.items()
        ]
        shared = [number for number, _ in self._fixed] + [int(n) for one in self._dynamic for n in one.free.flatten()]
        self.active = torch.cat(
            [torch.tensor(shared, dtype=torch.long).expand(self.n_times, -1), self._variable], dim=1
        )
        """Numbers of the free parameters that act on each spectrum, ``(n_times, n_active)``."""

    def _n_roles(self, parameter: FreeParameter) -> int:
        same = [one for one in self.free if one.mapped == parameter.mapped]
        return len(same)

    def _check(self) -> None:
        """Raise OptionError if a model of the file cannot be evaluated; replace those that are ready-made ones."""
        for number, one in enumerate(self._dynamic):
            p = torch.full((1, one.free.shape[1]), 0.5, dtype=torch.float64)
            try:
                model = recognised(one.model, one.free.shape[1], self.time_variable)
                values, slope = model.values(p, self.time_variable), model.jacobian(p, self.time_variable)
            except NotReadError as exc:
                raise configuration_error(self.configuration.path, exc) from exc
            except Exception as exc:
                text = " ".join(str(exc).split())[:120]
                raise self.configuration.error(
                    f"the model {one.name} cannot be evaluated with {p.shape[1]} params ({text})",
                    "compare it with `time_variables`",
                ) from exc
            if values.shape != (1, self.n_times) or slope.shape != (1, self.n_times, p.shape[1]):
                raise self.configuration.error(
                    f"the model {one.name} does not give one value for each of the {self.n_times} spectra, or its"
                    " gradient not one for each parameter",
                    "compare it with `time_variables`",
                )
            bad = (~(values.isfinite() & slope.isfinite().all(-1)))[0].nonzero()[:, 0].tolist()
            if bad:
                raise self.configuration.error(
                    f"the model {one.name} is not finite, or its gradient is not, at time point {bad[0]}",
                    "write it so that it is, or move that value of the time variable slightly",
                )
            self._dynamic[number] = replace(one, model=model)

    # -- evaluation ----------------------------------------------------------------------------------------------

    @property
    def n_free(self) -> int:
        """Number of free parameters."""
        return len(self.free)

    @property
    def dynamic(self) -> list[_Dynamic]:
        """Parameters that follow a model, by model."""
        return self._dynamic

    def mapped(self, x: torch.Tensor) -> torch.Tensor:
        """Return the parameters of every spectrum ``(n_times, n_mapped)`` of free parameters ``(n_free,)``."""
        out = x.new_zeros(self.n_times, len(self.mapped_names))
        for number, column in self._fixed:
            out[:, column] = x[number]
        out[:, self._variable_columns] = x[self._variable]
        for one in self._dynamic:
            out[:, one.columns] = one.model.values(x[one.free], self.time_variable).mT
        return out

    def jacobian(self, x: torch.Tensor) -> torch.Tensor:
        """Return the derivative of :meth:`mapped` by the :attr:`active` parameters, ``(n_times, n_mapped,
        n_active)``."""
        out = x.new_zeros(self.n_times, len(self.mapped_names), self.active.shape[1])
        for position, (_, column) in enumerate(self._fixed):
            out[:, column, position] = 1
        position = len(self._fixed)
        for one in self._dynamic:
            slope = one.model.jacobian(x[one.free], self.time_variable)
            for column, part in zip(one.columns.tolist(), slope):
                out[:, column, position : position + part.shape[-1]] = part
                position += part.shape[-1]
        for offset, column in enumerate(self._variable_columns):
            out[:, column, position + offset] = 1
        return out

    def curvature(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the second derivatives of :meth:`mapped`, summed with weights ``(n_times, n_mapped)``, ``(n_free,
        n_free)``."""
        out = x.new_zeros(self.n_free, self.n_free)
        for one in self._dynamic:
            blocks = one.model.curvature(x[one.free], self.time_variable, weights[:, one.columns].mT)
            out[one.free[:, :, None], one.free[:, None, :]] = blocks
        return out

    def start(self, mapped: torch.Tensor) -> torch.Tensor:
        """Return the first of :meth:`starts`."""
        return self.starts(mapped)[0]

    def starts(self, mapped: torch.Tensor) -> list[torch.Tensor]:
        """Return free parameters ``(n_free,)`` to start from, for parameters that were fitted spectrum by spectrum,
        ``(n_times, n_mapped)``.

        They are medians of fixed ones, and models fitted to dynamic ones; where the configuration has functions that
        propose initial values, those come first.

        Raises
        ------
        OptionError
            If such a function fails.
        """
        from .curve_fit import fit_curves

        x = mapped.new_zeros(self.n_free)
        for number, column in self._fixed:
            x[number] = mapped[:, column].median()
        x[self._variable] = mapped[:, self._variable_columns]
        for one in self._dynamic:
            lower, upper = self.lower[one.free], self.upper[one.free]
            x[one.free] = fit_curves(one.model, mapped[:, one.columns].mT, self.time_variable, lower, upper)
        proposed = x.clone()
        for one in self._dynamic:
            if one.initial is not None:
                courses = mapped[:, one.columns].mT
                values = self._proposed(one, courses)
                proposed[one.free] = torch.where(values.isfinite(), values, x[one.free])
        return [start.clamp(self.lower, self.upper) for start in ([x] if torch.equal(x, proposed) else [proposed, x])]

    def _proposed(self, one: _Dynamic, courses: torch.Tensor) -> torch.Tensor:
        """Return the initial values ``(n, k)`` that a function of the configuration gives for courses ``(n,
        n_times)``."""
        assert one.initial is not None
        name, shape = f"{one.name}_init", one.free.shape[1]
        try:
            rows = [one.initial(course, self.time_variable) for course in courses]
        except NotReadError as exc:
            raise configuration_error(self.configuration.path, exc) from exc
        except Exception as exc:
            text = " ".join(str(exc).split())[:120]
            raise self.configuration.error(f"the function {name} fails ({text})", "mend it, or remove it") from exc
        if any(row.shape != (shape,) for row in rows):
            raise self.configuration.error(
                f"the function {name} does not give {shape} values", f"return one for each of the params of {one.name}"
            )
        return torch.stack(rows)
