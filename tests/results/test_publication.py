"""What a paper needs: the minimum reporting table, the methods paragraph, its references, the hash of a basis set."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.cli.tables import text_table
from fsl_mrs_dl.concentrations import Relaxation, WaterScaling
from fsl_mrs_dl.concentrations.tissue import TissueFractions
from fsl_mrs_dl.fitting.artefacts import Artefact
from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.nifti import processing_record
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.publication import (
    Analysis,
    StudyPublication,
    bibtex,
    cited,
    methods_text,
    mrsinmrs_items,
    mrsinmrs_table,
    publication_html,
    write_publication,
)
from fsl_mrs_dl.results.publication.methods import _as_method, _line_shape, _water
from fsl_mrs_dl.results.publication.references import cite, key_of_doi, label_of, works
from fsl_mrs_dl.results.publication.study import common_sentences, merged_table
from fsl_mrs_dl.simulation.acquisition import simulate_basis, simulate_svs

HEADER = {
    "EchoTime": 0.035,
    "RepetitionTime": 2.0,
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Prisma",
    "SoftwareVersions": "XA30",
    "SequenceName": "svs_se",
    "WaterSuppressed": True,
    "PatientName": "confidential",
    "ConversionMethod": "spec2nii v0.8.15",
}
STEPS = (
    {"name": "coil combination", "done": True, "reason": "4 coils", "figures": {"snr_gain": 1.9}},
    {"name": "eddy-current correction", "done": True, "reason": "a water reference is there", "figures": {}},
    {"name": "averaging", "done": True, "reason": "", "figures": {"transients": 64}},
    {"name": "removal of residual water", "done": False, "reason": "none reaches the window", "figures": {}},
)


@pytest.fixture(scope="module")
def basis():
    return simulate_basis(["NAA", "Cr", "PCr", "GPC", "Glu", "Ins", "GABA"], te_ms=35.0, n_points=1024)


def analysed(basis, options, header=HEADER, **more) -> Analysis:
    data = simulate_svs(basis, transients=1, snr=60, seed=3).data
    data = replace(data, header={**data.header, **header}, affine=np.diag([20.0, 25.0, 30.0, 1.0]))
    fitted = fit_data(data, basis, options)
    results = FitResults.with_options(fitted.fit, fitted.data, options)
    return Analysis(results, options, fitted.basis, "press.basis", **more)


@pytest.fixture(scope="module")
def plain(basis):
    return analysed(basis, FitOptions(combine=("Glu+GABA",)))


@pytest.fixture(scope="module")
def in_vivo(basis):
    return analysed(basis, FitOptions(spectral_model="in-vivo", soft_constraints=True), steps=STEPS)


def test_every_item_is_filled_or_names_what_would_fill_it(plain):
    items = mrsinmrs_items(plain)
    expected = "1a 1b 1c 1d 1e 2a 2b 2c 2d 2e 2f 2g 2h 2i 3a 3b 3c 3d 4a 4b 4c 4d".split()
    assert [item.number for item in items] == expected
    values = {item.number: item.value for item in items}
    assert values["1a"].startswith("3 T (") and values["1b"] == "Siemens" and values["1c"] == "Prisma (software XA30)"
    assert values["2a"] == "svs_se" and values["2c"] == "20 x 25 x 30 mm (15 ml)"
    assert values["2d"] == "TE 35 ms, TR 2000 ms" and "1024 points" in values["2f"]
    assert "FSL-MRS-DL" in values["3a"] and "spec2nii v0.8.15" in values["3a"]
    assert values["3c"] == "ratios to Cr+PCr" and plain.basis.sha256 in values["3d"]
    assert "SNR" in values["4a"] and "NAA" in values["4a"] and "residual over noise" in values["4c"]
    texts = {item.number: item.text for item in items if not item.value}
    assert set(texts) == {"1d", "1e", "2b", "2e", "2h", "2i", "3b"}
    assert "TxCoil and RxCoil" in texts["1d"] and "SequenceTriggered" in texts["2i"]
    assert all(text.startswith("missing (") and len(text) > 20 for text in texts.values())
    table = mrsinmrs_table(plain)
    assert list(table.columns) == ["section", "number", "item", "value", "status"]
    assert (table["status"] == "missing").sum() == len(texts)
    assert "confidential" not in table.to_csv()


def test_a_bare_header_leaves_more_open_and_invents_nothing(basis):
    analysis = analysed(basis, FitOptions(), header={})
    analysis = replace(analysis, results=replace(analysis.results, data=replace(analysis.results.data, affine=None)))
    header = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"]}
    data = replace(analysis.results.data, header=header)
    analysis = replace(analysis, results=replace(analysis.results, data=data), basis=replace(basis, echo_time_s=None))
    missing = {item.number: item.text for item in mrsinmrs_items(analysis) if not item.value}
    assert {"1b", "1c", "2a", "2c", "2d", "2g"} <= set(missing)
    assert "EchoTime and RepetitionTime" in missing["2d"] and "affine" in missing["2c"]


def test_steps_and_history_are_named(in_vivo, plain):
    text = methods_text(in_vivo)
    assert "coil combination (4 coils; SNR gain 1.9)" in text
    assert "eddy-current correction [@klose1990ecc] (a water reference is there)" in text
    assert "Not needed was removal of residual water (none reaches the window)." in text
    assert "average of 64 transients" in text
    values = {item.number: item.value for item in mrsinmrs_items(in_vivo)}
    assert values["2e"] == "64 transients per spectrum"
    assert values["3b"] == "coil combination, eddy-current correction, averaging"
    assert "no record of processing" in methods_text(plain)
    ours, theirs = (
        processing_record("Phasing", ""),
        {"Program": "FSL-MRS", "Version": "2.4", "Method": "RF coil combination"},
    )
    data = replace(plain.results.data, header={**HEADER, "ProcessingApplied": [theirs, ours]})
    later = replace(plain, results=replace(plain.results, data=data))
    assert "RF coil combination (FSL-MRS 2.4) and phasing (FSL-MRS-DL" in methods_text(later)
    # Steps of a run are in the header, too, and are named once.
    assert "phasing" not in methods_text(replace(later, steps=STEPS))


def test_methods_of_the_models(plain, in_vivo):
    text = methods_text(plain)
    assert "linear combination model of FSL-MRS [@clarke2021fslmrs]" in text and "Voigt lines" in text
    assert "complex polynomial (polynomial of order 2)" in text and "No macromolecules were modelled." in text
    assert "Cramér-Rao" in text and "Glu+GABA" in text and "No spectrum was excluded." in text
    assert f"7 spectra ({', '.join(plain.basis.names)})" in text and plain.basis.sha256 in text
    text = methods_text(in_vivo)
    assert "in-vivo model of FSL-MRS-DL" in text and "SD 0.004 ppm" in text and "Gaussian process" in text
    assert "14 lines" in text and "TE 35 ms and TR 2 s" in text and "GABA/(" in text and "factor of 2.7" in text
    assert methods_text(replace(plain, exclusions=["Two were excluded: SNR below 5"])).count("Two were excluded") == 1
    fit = replace(plain.results.fit, converged=np.zeros(1, bool))
    failed = methods_text(replace(plain, results=replace(plain.results, fit=fit)))
    assert "The fit is marked as not usable: it did not converge." in failed
    for words in (text, methods_text(plain)):
        assert "None" not in words and "nan" not in words and ".." not in words.replace("...", "") and " ." not in words


def test_wrong_and_assumed_times_and_a_doubtful_verdict_are_named(in_vivo, basis):
    wrong = replace(in_vivo, basis=replace(in_vivo.basis, echo_time_s=0.03))
    text = methods_text(wrong)
    assert "The echo time of the basis set is not that of the data: it is for 30 ms, the data have 35 ms." in text
    assert "echo time" not in methods_text(in_vivo) and "assumed" not in methods_text(in_vivo)
    nothing = replace(in_vivo.results.data, header={})
    text = methods_text(replace(in_vivo, results=replace(in_vivo.results, data=nothing)))
    assert "The data have no EchoTime; that of the basis set, 35 ms, is assumed." in text
    assert "The data have no RepetitionTime; macromolecules are weighted for 2 s." in text
    bare = replace(in_vivo, basis=replace(in_vivo.basis, echo_time_s=None))
    assert "The basis set has no echo time; it is assumed to be for that of the data, 35 ms." in methods_text(bare)
    given = replace(in_vivo, options=replace(in_vivo.options, echo_time_s=0.068, repetition_time_s=1.5))
    text = methods_text(given)
    assert "An echo time of 68 ms was used in place of 35 ms in the header of the data." in text
    assert "A repetition time of 1.5 s was used in place of 2 s in the header" in text and "`" not in text
    zero = replace(in_vivo.results.data, header=in_vivo.header | {"EchoTime": 0.0})
    text = methods_text(replace(in_vivo, results=replace(in_vivo.results, data=zero)))
    assert "The EchoTime of the data is 0, and is taken for that." in text
    before = [Artefact("wrong field of the basis set", "it is of 300 MHz", "give another")]
    text = methods_text(replace(in_vivo, results=replace(in_vivo.results, artefacts_before=before)))
    assert "The verdict on the fit is doubtful: wrong field of the basis set (it is of 300 MHz)" in text
    assert "The verdict on the fit is good." in methods_text(in_vivo) and in_vivo.results.verdict[0] == 0


def test_removal_of_water_cites_its_method_where_it_was_done(in_vivo):
    step = {"name": "residual water", "reason": "removed by HLSVD", "figures": {}}
    text = methods_text(replace(in_vivo, steps=[{**step, "done": True}]))
    assert (
        "were removal of residual water [@pijnappel1992hlsvd; @laudadio2002lanczos] (removed by HLSVD)" in text
        and "10.1016/0022-2364(92)90241-X" in bibtex(cited(text))
        and "10.1006/jmre.2002.2593" in bibtex(cited(text))
    )
    assert "hlsvd" not in methods_text(replace(in_vivo, steps=[{**step, "done": False}]))
    entry = {"Program": "FSL-MRS", "Version": "2.4", "Method": "Nuisance peak removal"}
    data = replace(in_vivo.results.data, header={**HEADER, "ProcessingApplied": [entry]})
    text = methods_text(replace(in_vivo, steps=(), results=replace(in_vivo.results, data=data)))
    assert "nuisance peak removal [@pijnappel1992hlsvd" in text


def test_a_part_of_a_volume_is_reported_as_the_volume(in_vivo):
    of_volume = replace(in_vivo, steps=(), volume=(16, 16, 4), n_spectra=900)
    assert "These figures are of 1 voxels spread over the volume, of 900 that were fitted" in methods_text(of_volume)
    values = [item.value for item in mrsinmrs_items(of_volume) if item.number == "2f"]
    assert any("matrix 16 x 16 x 4" in value and "field of view 320 x 400 x 120 mm" in value for value in values)


def test_absolute_concentrations_name_their_constants(plain):
    relaxation = Relaxation.at_field(3.0)
    scaling = WaterScaling(echo_time_s=0.03, repetition_time_s=2.0)
    assumptions = ["Tissue fractions as given", "Pure water is assumed (`tissue_frac`)."]
    absolute = SimpleNamespace(scaling=scaling, relaxation=relaxation, assumptions=assumptions)
    analysis = replace(plain, results=replace(plain.results, absolute=absolute))
    text = methods_text(analysis)
    assert "T1 of metabolites 1290 ms, T2 of water in grey matter 88 ms" in text and "TE 30 ms and TR 2 s" in text
    assert "Tissue fractions as given. Pure water is assumed." in text
    keys = cited(text)
    assert "stanisz2005relaxation" in keys and "gelman1999t2" in keys
    assert "doi = {10.1148/radiology.210.3.r99fe41759}" in bibtex(keys, relaxation.dois)
    values = {item.number: item.value for item in mrsinmrs_items(analysis)}
    assert "molarity" in values["3c"] and "T1 METAB 1290 ms" in values["3d"]
    own = Relaxation.at_field(3.0, relaxation.t1, relaxation.t2)
    assert own.dois == () and len(set(relaxation.dois)) == len(relaxation.dois) > 5


def test_steps_are_told_with_their_algorithm_and_each_number_once(in_vivo):
    """'(16 transients, 0 of them left out; transients 16, ...)' was text of a log."""
    coils = {"name": "coil combination", "done": True, "figures": {"snr_over_best_coil": 1.39}}
    coils["reason"] = "4 coils, sensitivities from the water reference, noise whitened"
    figures = {"transients": 16, "shift_sd_hz": 0.7, "coherence_before": 0.974, "coherence_after": 0.99961}
    align = {"name": "alignment and averaging", "done": True, "figures": figures}
    align["reason"] = "16 transients, 0 of them left out"
    text = methods_text(replace(in_vivo, steps=[coils, align]))
    assert "(16 transients, none of them left out; coherence 0.9740 before and 0.9996 after; shift SD 0.7 Hz)" in text
    assert text.count("16 transients") == 2 and "transients 16" not in text
    assert "covariance of the noise" in text and "[@roemer1990array; @rodgers2010wsvd]" in text
    assert "highest likelihood" in text and "10.1002/mrm.25094" in bibtex(cited(text))
    off = methods_text(replace(in_vivo, steps=[{**align, "reason": "alignment switched off, mean of 16 transients"}]))
    assert "likelihood relative to" not in off


def test_methods_say_which_column_is_reported_and_how_water_was_used(in_vivo):
    text = methods_text(in_vivo)
    assert "Reported concentrations (column conc of uncertainty.csv) are posterior means" in text
    assert "The column posterior_mean holds another estimate, under a narrower prior (SD of the logarithm 0.3)" in text
    assert "parameters all have Gaussian priors" not in text
    water = SimpleNamespace(usable=np.arange(30) < 28)
    used = SimpleNamespace(water_shape=1, eddy_phase=1, water=water)
    one = SimpleNamespace(in_vivo_fit=used, rows=[0])
    assert _water(one) == (
        "The line shape and the correction of eddy currents [@klose1990ecc] were taken from the water reference in the"
        " fit, because the evidence was higher so."
    )
    several = _water(SimpleNamespace(in_vivo_fit=used, rows=range(28)))
    assert (
        "in all 28 fits, because the evidence was higher so in the spectra that it was compared in (at most 8)"
        in several
    )
    assert "in 28 of 30 fits, the others" in _water(SimpleNamespace(in_vivo_fit=used, rows=range(30)))


def test_the_range_of_macromolecules_holds_those_of_the_records(in_vivo):
    """It began at 0.3, and spectra like those of the Philips scan have 0.2."""
    assert "about 0.2 to 1 per total creatine" in text_table(in_vivo.results)


def test_assumptions_of_a_scaling_are_sentences_of_methods():
    assert _as_method("Cr+PCr is compared with water; relaxation of the literature at 3 T, TE 30 ms, TR 2 s.") == (
        "The signal of Cr+PCr was compared with that of water."
    )
    tissue = _as_method("Tissue fractions as given: white 0.40, grey 0.60, CSF 0.00, each with an SD of 0.03.")
    assert tissue == "Tissue fractions (as given) were white 0.40, grey 0.60, CSF 0.00, each with an SD of 0.03."
    gain = "Spectra and water reference must have the same receiver gain, and both be averaged, not summed."
    assert "were taken to have the same receiver gain" in _as_method(gain)


def test_sentences_of_methods_stand_alone_in_a_study(in_vivo):
    """Of a study's sentences those that differ are dropped: 'Its strength' was that of the macromolecules then."""
    sentences = re.split(r"(?<=\.) (?=[A-Z])", methods_text(in_vivo).replace("\n\n", " "))
    assert not [one for one in sentences if re.match(r"(Its?|They|These|This) ", one)]
    assert any(one.startswith("The strength of the baseline was not chosen") for one in sentences)
    assert "The verdict on the fit is" in methods_text(in_vivo)


def test_steps_that_were_not_done_are_told_from_those_not_needed(in_vivo):
    """'Left out were water reference (combined and averaged already)' read as if none was used."""
    steps = [
        {"name": "coil combination", "done": False, "reason": "coils are combined already"},
        {"name": "water reference", "done": False, "reason": "combined and averaged already"},
        {"name": "residual water", "done": False, "reason": "switched off"},
        {
            "name": "eddy currents",
            "done": False,
            "reason": "within the fit: nothing was taken. It may have been before",
        },
    ]
    text = methods_text(replace(in_vivo, steps=steps, n_transients=None))
    words = "Not needed were coil combination (coils are combined already) and combination and averaging of the water"
    assert f"{words} reference (combined and averaged already)." in text and "may have been" not in text
    assert "Not done was removal of residual water (switched off)." in text and "Left out" not in text


def test_a_fit_that_is_not_usable_and_was_kept_is_named_so(plain):
    fit = replace(plain.results.fit, converged=np.zeros_like(plain.results.fit.converged))
    text = methods_text(replace(plain, results=replace(plain.results, fit=fit)))
    assert "not usable: it did not converge. No spectrum was excluded: it was kept." in text


def test_csf_is_named_where_there_is_some(in_vivo):
    relaxation = Relaxation.at_field(3.0)
    tissue = TissueFractions.from_values(0.4, 0.5, 0.1)
    for fractions, some in ((None, False), (TissueFractions.from_values(0.4, 0.6, 0.0), False), (tissue, True)):
        scaling = WaterScaling(echo_time_s=0.03, repetition_time_s=2.0, tissue=fractions)
        absolute = SimpleNamespace(scaling=scaling, relaxation=relaxation, assumptions=())
        analysis = replace(in_vivo, results=replace(in_vivo.results, absolute=absolute))
        text, items = methods_text(analysis), {item.number: item.value for item in mrsinmrs_items(analysis)}
        assert ("T1 of water in CSF 4470 ms" in text) == some and ("H2O_CSF" in items["3d"]) == some
        assert ("spijkerman2018t2" in text) == some and "wright2008t1" in text


def test_a_stimulated_echo_needs_its_mixing_time(plain):
    def item(**more):
        header = {**plain.results.data.header, "SequenceName": "svs_st", **more}
        results = replace(plain.results, data=replace(plain.results.data, header=header))
        return {item.number: item for item in mrsinmrs_items(replace(plain, results=results))}["2f"]

    assert item().value == "" and "missing (header key MixingTime would fill it; spectral width" in item().text
    assert "TM 10 ms" in item(MixingTime=0.01).value


def test_field_and_software_are_tidy(plain):
    header = {**plain.results.data.header, "SoftwareVersions": "6.0.541 ; .0.541 ;"}
    data = replace(plain.results.data, header=header, spec_freq_mhz=123.2)
    analysis = replace(plain, results=replace(plain.results, data=data))
    values = {item.number: item.value for item in mrsinmrs_items(analysis)}
    assert values["1a"] == "2.89 T (123.2 MHz; nominal 3 T)" and values["1c"] == "Prisma (software 6.0.541)"


def test_relaxation_works_are_articles(in_vivo):
    """They were entries of a DOI alone."""
    for field in (3.0, 7.0):
        entries = bibtex([key_of_doi(doi) for doi in Relaxation.at_field(field).dois])
        assert entries.count("@misc") <= 1
    assert "author = {{FSL-MRS-DL contributors}}" in bibtex(["fslmrsdl"])


def test_the_prior_of_the_line_shape_is_that_of_the_fit(in_vivo):
    """With the line shape of water its SD is smaller."""
    without = methods_text(in_vivo)
    assert "prior SD is 0.12 near 0 Hz and falls as a Gaussian with an SD of 5 Hz" in without
    fit = in_vivo.results.fit
    of_water = SimpleNamespace(fitted_model=fit.fitted_model, water_shape=np.ones((1, 4)))
    assert "on top of that of water" in _line_shape(of_water) and "prior SD is 0.048 near 0 Hz" in _line_shape(of_water)


def test_references_are_exactly_those_that_are_cited(in_vivo, tmp_path):
    write_publication(tmp_path, in_vivo)
    text = (tmp_path / "methods.md").read_text(encoding="utf-8")
    entries = re.findall(r"@\w+\{([^,]+),", (tmp_path / "references.bib").read_text(encoding="utf-8"))
    assert entries == cited(text) and len(entries) == len(set(entries)) > 6
    assert len(pd.read_csv(tmp_path / "mrsinmrs.csv")) == 22
    assert text.count("| 2d |") == 1


def test_a_study_has_what_its_sessions_share(in_vivo, plain, tmp_path):
    names = ("a", "b", "c", "d")
    snrs = {"a": 48.4, "b": 30.0, "c": 21.5, "d": 18.0}
    for name in names:
        (tmp_path / name).mkdir()
        write_publication(tmp_path / name, replace(in_vivo, n_transients=64 if name != "d" else 32, location="PCC"))
        page = (tmp_path / name / "methods.md").read_text(encoding="utf-8")
        page = re.sub(r"ratio of NAA was [\d.]+", f"ratio of NAA was {snrs[name]}", page)
        (tmp_path / name / "methods.md").write_text(page, encoding="utf-8")
    study = StudyPublication(
        [tmp_path / name for name in (*names, "none")],
        6,
        ["SNR below 5"],
        {"e": ["SNR 4.2 below 5"], "f": ["SNR 3 below 5"]},
        [{"snr": snr, "fwhm_hz": 5.0} for snr in snrs.values()],
    )
    text = study.methods
    assert "in-vivo model of FSL-MRS-DL" in text and "ratio of NAA was" not in text and "|" not in text
    assert "average of 64 transients" not in text and "are in their own folders" in text
    assert "Of 6 sessions 4 were included." in text and "Left out were 2 (SNR below 5)." in text
    assert "signal-to-noise ratio 25.8 (18 to 48.4), line width 5 Hz (FWHM) (5 to 5)" in text
    assert "No spectrum was excluded" not in text and text.count("minimum reporting table") == 1
    table = study.table.set_index("number")["value"]
    assert (
        table["2b"] == "PCC"
        and table["2e"] == "64 transients per spectrum (3 sessions); 32 transients per spectrum (1 sessions)"
    )
    study.write(tmp_path)
    entries = re.findall(r"@\w+\{([^,]+),", (tmp_path / "references.bib").read_text(encoding="utf-8"))
    assert entries == cited(text) and "klose1990ecc" in entries and "[@" not in study.html()
    assert len(pd.read_csv(tmp_path / "mrsinmrs.csv")) == 22


def test_sentences_that_nearly_all_sessions_have_say_in_how_many():
    texts = ["All have it. Scaled by water."] * 11 + ["All have it. Ratios."]
    assert common_sentences(texts) == ["All have it.", "In 11 of 12 sessions: Scaled by water."]
    assert common_sentences(texts[-3:]) == ["All have it."]


def test_items_that_differ_much_are_not_listed(plain):
    frames = []
    for index in range(5):
        frame = mrsinmrs_table(plain)
        frame.loc[frame["number"] == "4a", "value"] = f"SNR {index}"
        frames.append(frame)
    merged = merged_table(frames).set_index("number")
    assert (
        merged.loc["4a", "value"].startswith("differs between sessions (5 values")
        and merged.loc["1e", "status"] == "missing"
    )
    assert list(merged_table(frames).columns) == list(frames[0].columns)


def test_works_have_dois_and_keys():
    for key, work in works().items():
        assert re.fullmatch(r"10\.\d{4,}/\S+", work["doi"]) and key_of_doi(work["doi"].upper()) == key
        name, address = label_of(key)
        assert str(work["year"]) in name and address.endswith(work["doi"])
    assert cite() == "" and cited("[@a; @b] and [@a] but [not]") == ["a", "b"]


def test_report_section_links_the_works(in_vivo):
    page = publication_html(in_vivo)
    assert "[@" not in page and 'href="https://doi.org/10.1002/nbm.4484">Lin et al. 2021</a>' in page
    assert page.count("<tr") == 22 + 4 and "FSL-MRS-DL 0" in page and "()" not in page


def test_hash_of_a_basis_set_is_of_its_content(basis, tmp_path):
    again = Basis.load(basis.save(tmp_path / "basis"))
    other_order = replace(basis, fids=basis.fids[::-1], names=basis.names[::-1], widths_hz=())
    assert basis.sha256 == again.sha256 == other_order.sha256
    assert re.fullmatch("[0-9a-f]{64}", basis.sha256)
    changed = basis.fids.copy()
    changed[2, 5] *= 1.001
    for different in (replace(basis, fids=changed), basis.select(ignore=["NAA"]), replace(basis, spec_freq_mhz=100.0)):
        assert different.sha256 != basis.sha256


def test_data_file_is_json_without_doubles():
    dois = [work["doi"].lower() for work in works().values()]
    assert len(dois) == len(set(dois)) and json.dumps(works())
