"""Tables of a study: values, exclusions with reasons, groups and their difference."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.workflow.collect import left_out_words
from fsl_mrs_dl.workflow.entry import StudySession
from fsl_mrs_dl.workflow.exclusion import ExclusionRules
from fsl_mrs_dl.workflow.group import group_study, write_tables
from fsl_mrs_dl.workflow.overview import write_overview
from tests.helpers.made_study import made_groups, write_made_results


def further(folder, sessions, name="sub-99_svs", values=None, **about):
    """One more session."""
    write_made_results(folder, name, values or {"NAA": 50.0, "Glu": 50.0, "Cr": 50.0}, **about)
    return [*sessions, StudySession(name, folder, participant=name[4:6], series="svs", group="patient")]


def test_the_difference_of_two_groups_has_an_interval(tmp_path):
    tables = group_study(tmp_path, made_groups(tmp_path))
    assert tables.quantity == "molarity" and len(tables.tidy) == 12 * 3 * 3
    effects = tables.effects.set_index(["quantity", "metabolite"])
    glu, naa = effects.loc[("molarity", "Glu")], effects.loc[("molarity", "NAA")]
    assert glu["ci95_low"] < 2 < glu["ci95_high"] and glu["ci95_low"] > 0 and glu["p_adjusted"] < 0.05
    assert naa["ci95_low"] < 0 < naa["ci95_high"] and (glu["group"], glu["against"]) == ("patient", "control")
    groups = tables.groups.set_index(["quantity", "metabolite", "group"])
    assert groups.loc[("molarity", "Glu", "control"), "mean"] == pytest.approx(9, abs=0.5)
    line = groups.loc[("molarity", "Glu", "control")]
    assert 0 <= line["between_sd"] < line["total_sd"] < 1


@pytest.mark.parametrize(
    "quality, reason",
    [
        ({"snr": 2.0}, "SNR 2 below 5"),
        ({"fwhm_ppm": 0.15}, "FWHM in ppm 0.15 above 0.1"),
        ({"ood_score": 1.5}, "out-of-distribution score 1.5 above 1"),
        ({"usable": False}, "the fit is not usable: it has no signal, or a larger residual than realistic spectra"),
        ({"usable": False, "converged": False}, "the fit did not converge"),
    ],
)
def test_sessions_are_left_out_by_rules_with_reasons(tmp_path, quality, reason):
    sessions = further(tmp_path, made_groups(tmp_path), quality=quality)
    tables = group_study(tmp_path, sessions)
    line = tables.sessions.set_index("session").loc["sub-99_svs"]
    assert not line["included"] and line["reason"] == reason
    without = group_study(tmp_path, sessions[:-1])
    pd.testing.assert_frame_equal(tables.effects, without.effects)
    assert (tables.tidy["session"] == "sub-99_svs").any(), "its values stay in the table, marked"
    off = ExclusionRules(min_snr=None, max_fwhm_ppm=None, max_ood=None, usable=False)
    assert group_study(tmp_path, sessions, rules=off).sessions["included"].all()


@pytest.mark.parametrize("estimate", ["None", "posterior_mean", "network"])
def test_ratios_are_of_the_estimate_that_was_asked_for(tmp_path, estimate):
    """They were the model's own beside molarities of a posterior mean, and the mark of the prior was of theirs."""
    write_made_results(tmp_path, "one", {"Glu": 9.0, "NAA": 12.0, "Cr": 8.0}, prior_share={"Glu": 0.4})
    folder = tmp_path / "sessions" / "one"
    (folder / "study.json").write_text(json.dumps({"made_from": {"version": "0", "settings": f"estimate: {estimate}"}}))
    rows = ["Metabs,mean,mean,std,std", ",raw,internal,raw,internal", "Cr,0.7,1.0,0.01,0.0", "Glu,0.6,0.86,0.02,0.03"]
    (folder / "concentrations.csv").write_text("\n".join(rows) + "\n")
    own = pd.read_csv(folder / "uncertainty.csv")
    own.assign(posterior_sd=own["in_vivo_sd"] / 2).to_csv(folder / "uncertainty.csv", index=False)
    tables = group_study(tmp_path, [StudySession("one", tmp_path, participant="1")], quantity="ratio")
    lines = tables.tidy.set_index(["quantity", "metabolite"])
    glu, raw = lines.loc[("ratio", "Glu")], lines.loc[("raw", "Glu")]
    other = estimate != "None"
    assert glu["value"] == (0.86 if other else 1.125) and raw["value"] == pytest.approx(0.6 if other else 0.9)
    assert raw["sd"] == pytest.approx(0.02 if other else 0.03) and lines.loc[("molarity", "Glu"), "value"] == 9.0
    if other:
        assert glu["ci95_low"] == pytest.approx(0.86 - 1.96 * 0.03, abs=1e-4)
    share = {"None": 0.4, "posterior_mean": 1 - 0.6 / 4}.get(estimate)
    assert pd.isna(glu["prior_share"]) if share is None else glu["prior_share"] == pytest.approx(share)


def test_a_misfit_is_a_rule_where_it_is_asked_for():
    assert ExclusionRules().reasons({"misfit": 9.0, "snr": None, "fwhm_ppm": float("nan")}) == []
    assert ExclusionRules(max_misfit=3).reasons({"misfit": 9.0}) == ["residual over noise 9 above 3"]
    assert "residual over noise above 3" in ExclusionRules(max_misfit=3).sentences()


def test_failed_sessions_and_those_left_out_by_hand_have_reasons(tmp_path):
    sessions = made_groups(tmp_path)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "bad.json").write_text('{"reason": "truncated"}', encoding="utf-8")
    sessions += [StudySession("bad", tmp_path, series="svs"), StudySession("late", tmp_path, series="svs")]
    tables = group_study(tmp_path, sessions, by_hand=["sub-03"])
    reasons = {result.session.name: result.reasons for result in tables.results if result.reasons}
    assert reasons == {"sub-03_svs": ("left out by hand",), "bad": ("truncated",), "late": ("was not run",)}


def test_sessions_left_out_by_hand_are_counted_apart(tmp_path):
    """The page counted them among those that rules leave out."""
    sessions = further(tmp_path, made_groups(tmp_path), "poor", quality={"snr": 1.0})
    sessions = further(tmp_path, sessions, "both", quality={"snr": 1.0})
    tables = group_study(tmp_path, sessions, by_hand=["sub-03", "sub-04", "both"])
    words = left_out_words(tables.results)
    assert words == ["2 were left out by rules", "2 were left out by hand (`exclude`)"]
    page = write_overview(tmp_path / "overview.html", tables, title="Study").read_text(encoding="utf-8")
    assert "10 of 14 sessions are in the tables of groups; 2 were left out by rules; 2 were left out by hand" in page
    assert "(--exclude)" in page


def test_a_study_says_why_it_has_no_molarity_and_what_to_do(tmp_path):
    """ "No molarity" stood there without a reason, and without the options that give it."""
    why = "the echo time and repetition time are in no header; give --TE in ms and --TR in s"
    step = {"name": "absolute concentrations", "done": False, "reason": f"none, {why}"}
    sessions = []
    for number in range(6):
        sessions = further(tmp_path, sessions, f"sub-0{number}_svs", absolute=False, steps=[step])
    tables = group_study(tmp_path, sessions)
    assert tables.remarks[-1] == f"Shown is the ratio: 6 of 6 included sessions have no molarity: {why}."
    assert tables.results[0].remarks == [f"no absolute concentrations: {why}"]
    with_times = further(tmp_path, sessions, "sub-07_svs")
    of_all = group_study(tmp_path, with_times, quantity="molarity").remarks
    assert any("6 included sessions have no molarity" in one and f" Why: {why}." in one for one in of_all)


def test_sessions_without_tissue_fractions_are_named(tmp_path):
    """Their mM, of a voxel of water alone, stood beside those of others without a word."""
    sessions = further(tmp_path, made_groups(tmp_path), "sub-98_svs", molarity_of="water alone")
    (remark,) = [one for one in group_study(tmp_path, sessions).remarks if "tissue_frac" in one]
    assert remark.startswith(
        "Of 1 of 13 included sessions tissue fractions were not given: mM are as in a voxel of water"
    )
    assert "not comparable with those of the others: sub-98_svs." in remark


def test_values_without_water_are_ratios_only(tmp_path):
    step = {"name": "absolute concentrations", "done": False, "reason": "there is no water reference"}
    values = {"NAA": 12.0, "Glu": 9.0, "Cr": 8.0}
    sessions = further(tmp_path, made_groups(tmp_path), values=values, absolute=False, steps=[step])
    tables = group_study(tmp_path, sessions)
    assert tables.results[-1].remarks == ["no absolute concentrations: there is no water reference"]
    assert tables.quantity == "molarity" and pd.isna(tables.wide.set_index("session").loc["sub-99_svs", "NAA"])
    n = tables.groups.set_index(["quantity", "metabolite", "group"])["n"]
    assert (n["molarity", "NAA", "patient"], n["ratio", "NAA", "patient"]) == (6, 7)
    assert group_study(tmp_path, sessions, quantity="ratio").wide["NAA"].notna().all()
    with pytest.raises(OptionError, match="no session has it; there are molarity, ratio, raw"):
        group_study(tmp_path, sessions, quantity="mM")


def test_visits_of_a_participant_are_one_value(tmp_path):
    sessions = made_groups(tmp_path)
    same = [replace(session, participant="one") if session.group == "patient" else session for session in sessions]
    groups = group_study(tmp_path, same).groups.set_index(["quantity", "metabolite", "group"])
    assert groups.loc[("molarity", "NAA", "patient"), "n"] == 1
    assert groups.loc[("molarity", "NAA", "patient"), "median_sd_of_value"] == pytest.approx(0.3 / 6**0.5)


def test_visits_that_are_averaged_are_named(tmp_path):
    """Several visits of a participant went into one mean, and nothing said so."""
    sessions = made_groups(tmp_path)
    assert not any("averaged" in text for text in group_study(tmp_path, sessions).remarks)
    patients = [session.name for session in sessions if session.group == "patient"]
    whose = dict(zip(patients, ["one", "one", "one", "two", "two", "three"]))
    same = [replace(one, participant=whose.get(one.name, one.participant)) for one in sessions]
    tables = group_study(tmp_path, same)
    (remark,) = [text for text in tables.remarks if "averaged" in text]
    assert remark.startswith("2 participants have several sessions in patient (svs), whose values are averaged: ")
    assert "one (3), two (2)." in remark and "give each visit a group of its own" in remark
    groups = tables.groups.set_index(["quantity", "metabolite", "group"])
    line = groups.loc[("molarity", "NAA", "patient")]
    assert (line["n"], line["n_sessions"]) == (3, 6)
    # Visits that are groups of their own are not averaged.
    apart = [replace(one, group=one.name if one.name in patients else one.group) for one in same]
    assert not any("averaged" in text for text in group_study(tmp_path, apart).remarks)


def test_several_spectra_are_no_single_value(tmp_path):
    sessions = further(tmp_path, made_groups(tmp_path))
    path = tmp_path / "sessions" / "sub-99_svs" / "uncertainty.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + text.split("\n", 1)[1], encoding="utf-8")
    assert "several spectra" in group_study(tmp_path, sessions).results[-1].reasons[0]


def test_tables_are_written_with_rules_and_na(tmp_path):
    sessions = further(tmp_path, made_groups(tmp_path), quality={"snr": None, "ood_score": 3})
    out = tmp_path / "group"
    out.mkdir()
    write_tables(out, group_study(tmp_path, sessions))
    assert sorted(path.name for path in out.iterdir()) == [
        "concentrations_tidy.tsv", "concentrations_wide.tsv", "effects.tsv", "exclusion.json", "groups.tsv",
        "methods.md", "references.bib", "sessions.tsv",
    ]  # fmt: skip
    about = json.loads((out / "exclusion.json").read_text(encoding="utf-8"))
    assert about["exclusion"]["min_snr"] == 5 and list(about["left_out"]) == ["sub-99_svs"]
    wide = pd.read_csv(out / "concentrations_wide.tsv", sep="\t")
    assert len(wide) == 13 and {"NAA", "NAA_sd", "group", "included", "reason", "snr"} <= set(wide)
    assert (out / "sessions.tsv").read_text(encoding="utf-8").splitlines()[-1].count("n/a") > 1


def test_nothing_to_group_is_an_error(tmp_path):
    with pytest.raises(DataError, match="was not run"):
        group_study(tmp_path, [StudySession("a", tmp_path)])


def test_one_group_has_no_effects(tmp_path):
    sessions = [replace(session, group="") for session in made_groups(tmp_path)]
    tables = group_study(tmp_path, sessions)
    assert tables.effects.empty and tables.groups["n"].eq(12).all()


def test_damaged_results_are_named(tmp_path):
    sessions = further(tmp_path, made_groups(tmp_path))
    (tmp_path / "sessions" / "sub-99_svs" / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="run the session again"):
        group_study(tmp_path, sessions)


def test_errors_that_all_sessions_share_stay_in_means_and_cancel_in_differences(tmp_path):
    """The budget of each session gives their share: of an SD of 0.3, 64 % of the variance."""
    sessions = made_groups(tmp_path)
    own = group_study(tmp_path, sessions)
    columns = "Metab,unit,fit_share,water_relaxation_share,metabolite_relaxation_share"
    for session in sessions:
        path = tmp_path / "sessions" / session.name / "concentration_budget.csv"
        path.write_text(f"{columns}\nNAA,molarity,0.36,0.14,0.5\n", encoding="utf-8")
    tables = group_study(tmp_path, sessions)
    keys = ["quantity", "metabolite", "group"]
    before, after = (one.groups.set_index(keys).loc[("molarity", "NAA", "control")] for one in (own, tables))
    assert after["sd_common"] == pytest.approx(0.24) and after["sd_of_mean"] > before["sd_of_mean"] > 0
    assert after["median_sd_of_value"] == pytest.approx(0.18)
    before, after = (one.effects.set_index(keys[:2]).loc[("molarity", "NAA")] for one in (own, tables))
    assert after["sd"] <= before["sd"] + 1e-9
    unchanged = [one.effects[one.effects["metabolite"] == "Glu"].reset_index(drop=True) for one in (own, tables)]
    pd.testing.assert_frame_equal(*[frame.drop(columns="p_adjusted") for frame in unchanged])


def test_raw_amplitudes_have_no_means_and_no_differences(tmp_path):
    """Each session's are in units of its own data: water scaling and ratios make them comparable."""
    tables = group_study(tmp_path, made_groups(tmp_path))
    assert "raw" in set(tables.tidy["quantity"])
    assert "raw" not in set(tables.groups["quantity"]) | set(tables.effects["quantity"])
    tables = group_study(tmp_path, made_groups(tmp_path / "raw"), quantity="raw")
    assert not any("raw" in set(frame["quantity"]) for frame in (tables.groups, tables.effects))
    assert any("not comparable between sessions" in text for text in tables.remarks)


def test_a_quantity_that_one_group_lacks_is_not_the_default(tmp_path):
    sessions = []
    for number in range(12):
        group = "patient" if number < 4 else "control"
        write_made_results(tmp_path, f"s{number}", {"NAA": 12.0 + 0.1 * number, "Cr": 8.0}, absolute=group == "control")
        sessions.append(StudySession(f"s{number}", tmp_path, participant=f"{number}", series="svs", group=group))
    tables = group_study(tmp_path, sessions)
    assert tables.quantity == "ratio" and "4 of 12 included sessions have no molarity" in tables.remarks[0]
    asked = group_study(tmp_path, sessions, quantity="molarity").remarks
    assert "all of patient among them" in asked[0] and "All have the ratio (`quantity` ratio)" in asked[0]


ABOUT = {"basis_sha256": "a" * 64, "te_ms": 30.0, "tr_s": 2.0, "field_t": 2.89, "sequence": "press", "model": "Prisma"}


@pytest.mark.parametrize(
    "of_patients, words",
    [
        ({"basis_sha256": "b" * 64}, "basis set: control simulated aaaaaaaa (4), but patient simulated bbbbbbbb (4)"),
        ({"vendor": "Philips", "model": "Achieva"}, "scanner: control Siemens Prisma (4), but patient Philips Achieva"),
        ({"te_ms": 35.0}, "echo time: control 30 ms (4), but patient 35 ms (4)"),
        ({"tr_s": 1.5}, "repetition time: control 2 s (4), but patient 1.5 s (4)"),
        ({"field_t": 7.0}, "field: control 2.89 T (4), but patient 7 T (4)"),
        ({"sequence": "steam"}, "sequence: control press (4), but patient steam (4)"),
        ({"field_t": 3.0, "te_ms": 30.1, "model": "prisma"}, ""),
        ({"te_ms": None}, ""),
    ],
)
def test_groups_that_were_not_measured_alike_are_named(tmp_path, of_patients, words):
    sessions = []
    for number in range(8):
        ill = number % 2
        about = {**ABOUT, **(of_patients if ill else {})}
        write_made_results(tmp_path, f"s{number}", {"NAA": 12.0 + 0.1 * number, "Cr": 8.0}, **about)
        group = "patient" if ill else "control"
        sessions.append(StudySession(f"s{number}", tmp_path, participant=f"{number}", series="svs", group=group))
    remarks = group_study(tmp_path, sessions).remarks
    assert len(remarks) == bool(words) and all(words in text for text in remarks)
    # Both groups with the same share of either are alike.
    half = [replace(one, group="patient" if number < 4 else "control") for number, one in enumerate(sessions)]
    assert group_study(tmp_path, half).remarks == []


def test_the_same_data_under_two_names_small_groups_and_doubtful_fits_are_named(tmp_path):
    sessions = made_groups(tmp_path)
    for name in ("sub-98_svs", "sub-99_svs"):
        quality = {"verdict": "doubtful"}
        values = {"NAA": 12.0, "Glu": 9.0, "Cr": 8.0}
        sessions = further(tmp_path, sessions, name, values, fids_sha256="c" * 64, quality=quality)
    sessions[-2:] = [replace(one, group="other") for one in sessions[-2:]]
    sessions[0] = replace(sessions[0], group="")
    tables = group_study(tmp_path, sessions)
    text = "\n".join(tables.remarks)
    assert "sub-98_svs, sub-99_svs hold the same data" in text and "other (svs) has 2 participants: too few" in text
    assert "2 of 14 included sessions have the verdict 'doubtful': sub-98_svs, sub-99_svs" in text
    assert "1 included session has no group" in text
    lines = tables.sessions.set_index("session")["remarks"]
    assert lines["sub-98_svs"] == "the same data as sub-99_svs" and lines["sub-00_svs"] == ""


VALUES = {"NAA": 12.0, "Glu": 9.0, "Cr": 8.0}


def test_one_metabolite_of_two_basis_sets_is_one_line(tmp_path):
    sessions = []
    for number in range(5):
        own = {"PCho": 1.0, "Scyllo": 0.1, "GPC+PCho": 2.0} if number < 3 else {"PCh": 1.2, "sIns": 0.2, "PCh+GPC": 2.2}
        sessions = further(tmp_path, sessions, f"sub-{number:02}_svs", {**own, **VALUES})
    tables = group_study(tmp_path, sessions)
    found = tables.wide.set_index("session")
    assert found[["PCho", "Scyllo", "GPC+PCho"]].notna().all(axis=None) and found.loc["sub-04_svs", "PCho"] == 1.2
    assert not {"PCh", "sIns", "PCh+GPC", "GPC+PCh"} & set(tables.tidy["metabolite"])
    n = tables.groups.set_index(["quantity", "metabolite"])["n"]
    assert n["molarity", "PCho"] == n["molarity", "GPC+PCho"] == n["molarity", "NAA"] == 5
    (remark,) = (text for text in tables.remarks if "names" in text)
    assert "GPC+PCh" not in remark and "PCh of 2 sessions is PCho here, sIns of 2 sessions is Scyllo here" in remark


def test_names_that_stand_side_by_side_in_a_session_stay_apart(tmp_path):
    sessions = further(tmp_path, [], "sub-01_svs", {"PCh": 1.0, "PCho": 0.5, "Cho": 1.5, "Glc_a": 0.3, **VALUES})
    sessions = further(tmp_path, sessions, "sub-02_svs", {"PCho": 1.0, "GPC": 1.0, "Glc": 1.0, "tCr": 8.0, **VALUES})
    tables = group_study(tmp_path, sessions)
    assert set(tables.tidy["metabolite"]) == {*VALUES, "PCh", "PCho", "Cho", "Glc_a", "GPC", "Glc", "tCr"}
    assert not [text for text in tables.remarks if "names" in text]


def test_what_a_session_shares_with_others_follows_its_new_name(tmp_path):
    budget = "unit,Metab,water_relaxation_share,metabolite_relaxation_share\nmolarity,{},0.25,0\n"
    sessions = []
    for number, name in enumerate(("sIns", "sIns", "Scyllo")):
        sessions = further(tmp_path, sessions, f"sub-{number:02}_svs", {name: 1.0, **VALUES})
        place = tmp_path / "sessions" / f"sub-{number:02}_svs"
        (place / "concentration_budget.csv").write_text(budget.format(name), encoding="utf-8")
    tidy = group_study(tmp_path, sessions).tidy
    lines = tidy[(tidy["metabolite"] == "sIns") & (tidy["quantity"] == "molarity")]
    assert len(lines) == 3 and (lines["sd_common"] == 0.5 * lines["sd"]).all() and (lines["sd_common"] > 0).all()


def test_a_name_that_is_left_out_by_hand_is_one_that_there_is(tmp_path):
    sessions = [replace(one, participant=f"sub-{one.participant}") for one in made_groups(tmp_path)]
    for name in ("sub-03", "03", "sub-03_svs"):
        tables = group_study(tmp_path, sessions, by_hand=[name])
        assert [one.session.name for one in tables.results if one.reasons] == ["sub-03_svs"], name
    with pytest.raises(OptionError, match="exclude sub-3: there is no such session or participant"):
        group_study(tmp_path, sessions, by_hand=["sub-3"])


def test_sessions_that_were_run_with_other_options_are_named(tmp_path):
    """As after a change of options that was not run to its end."""
    sessions = made_groups(tmp_path)

    def record(session, settings, version="1"):
        content = json.dumps({"made_from": {"version": version, "settings": settings}})
        (tmp_path / "sessions" / session.name / "study.json").write_text(content, encoding="utf-8")

    for number, session in enumerate(sessions):
        record(session, f"ppmlim: {[0.2, 4.2] if number < 2 else None}\nmm: None\n")
    (remark,) = group_study(tmp_path, sessions).remarks
    assert remark.startswith("2 of 12 included sessions were run with other options than most (ppmlim): sub-00_svs, ")
    for session in sessions:
        record(session, "ppmlim: None\nmm: None\n", version="2" if session is sessions[0] else "1")
    assert (
        "1 of 12" in group_study(tmp_path, sessions).remarks[0]
        and "(version)" in group_study(tmp_path, sessions).remarks[0]
    )
    record(sessions[0], "ppmlim: None\nmm: None\n")
    assert group_study(tmp_path, sessions).remarks == []


def test_participants_in_both_groups_are_named(tmp_path):
    """Before and after a treatment: values are paired, and the difference is that of independent groups."""
    sessions = made_groups(tmp_path, n=3)
    assert not any("in both" in text for text in group_study(tmp_path, sessions).remarks)
    paired = [replace(one, participant=f"{number // 2:02}") for number, one in enumerate(sessions)]
    (remark,) = (text for text in group_study(tmp_path, paired).remarks if "in both" in text)
    assert remark.startswith("3 participants are in both control and patient (svs): 00, 01, 02.")
    assert "independent groups" in remark and "within participants" in remark
    one_only = [replace(one, participant=f"{max(number, 1):02}") for number, one in enumerate(sessions)]
    assert any(text.startswith("1 participant is in both") for text in group_study(tmp_path, one_only).remarks)
    apart = [replace(one, series="svs" if one.group == "control" else "other") for one in paired]
    assert not any("in both" in text for text in group_study(tmp_path, apart).remarks), "nothing is compared"


def test_values_that_are_mostly_prior_are_marked_wherever_groups_are_compared(tmp_path, capsys):
    """The documentation forbids to compare groups by them, and no table of a study showed which they are."""
    from fsl_mrs_dl.cli.study import _effects
    from fsl_mrs_dl.workflow.overview import write_overview

    tables = group_study(tmp_path, made_groups(tmp_path, prior_share={"Glu": 0.7, "NAA": 0.05}))
    glu = tables.tidy[tables.tidy["metabolite"] == "Glu"]
    assert glu["prior_share"].eq(0.7).all()
    for frame in (tables.groups, tables.effects):
        shares = frame.groupby("metabolite")["prior_share"].max()
        assert shares["Glu"] == 0.7 and shares["NAA"] == 0.05 and pd.isna(shares["Cr"])
    text = _effects(tables)
    assert "  Glu*: patient - control" in text and text.endswith("do not compare groups by them.\n")
    page = write_overview(tmp_path / "x.html", tables, title="x").read_text("utf-8")
    assert "<td class=text>Glu*</td>" in page and "<td class=text>NAA</td>" in page
    assert page.count("do not compare groups by them") == 2
    plain = group_study(tmp_path / "b", made_groups(tmp_path / "b"))
    assert "*" not in _effects(plain)
    assert "do not compare" not in write_overview(tmp_path / "y.html", plain, title="x").read_text("utf-8")


def test_the_share_of_a_prior_is_the_larger_of_two_groups(tmp_path):
    sessions = []
    for number in range(6):
        share = {"NAA": (0.1, 0.6)[number % 2] + 0.01 * number}
        write_made_results(tmp_path, f"s{number}", {"NAA": 12.0 + 0.1 * number, "Cr": 8.0}, prior_share=share)
        group = "patient" if number % 2 else "control"
        sessions.append(StudySession(f"s{number}", tmp_path, participant=f"{number}", series="svs", group=group))
    tables = group_study(tmp_path, sessions)
    groups = tables.groups.set_index(["quantity", "metabolite", "group"])["prior_share"]
    assert groups["molarity", "NAA", "control"] == pytest.approx(0.12)
    effects = tables.effects.set_index(["quantity", "metabolite"])["prior_share"]
    assert effects["molarity", "NAA"] == pytest.approx(groups["molarity", "NAA", "patient"]) == pytest.approx(0.63)


def test_sessions_that_are_kept_though_they_are_not_usable_are_named(tmp_path):
    """With `keep_unusable` the p values of a comparison were theirs, too, and no remark said so."""
    quality = {"verdict": "not usable", "usable": False, "converged": False}
    sessions = further(tmp_path, made_groups(tmp_path), "sub-98_svs", quality=quality)
    kept = group_study(tmp_path, sessions, rules=ExclusionRules(usable=False)).remarks
    assert any(
        "1 of 13 included sessions have the verdict 'not usable': sub-98_svs. Their values" in one for one in kept
    )
    assert not any("not usable" in one for one in group_study(tmp_path, sessions).remarks)
