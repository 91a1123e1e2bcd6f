// One entry of the browser's history for each step of the reader.
//
// Where the page goes to another screen by itself, Streamlit writes two addresses one after the
// other: the parameters, and then the path. Without this, Back would first lead to the old screen
// under the new parameters. What only says how something is looked at makes no entry either.
(() => {
    if (window.oneEntryAStep) return;
    window.oneEntryAStep = true;
    const looks = ["q", "sort", "epoch", "page", "change"];
    const push = history.pushState;
    let hasActed = false;
    for (const event of ["pointerdown", "keydown", "change", "drop"]) {
        addEventListener(event, () => { hasActed = true; }, true);
    }
    const place = (address) => {
        const url = new URL(address, location.href);
        looks.forEach((name) => url.searchParams.delete(name));
        url.searchParams.sort();
        return url.href;
    };
    history.pushState = function (state, title, address) {
        const isStep = hasActed && place(address) !== place(location.href);
        hasActed = false;
        (isStep ? push : history.replaceState).call(history, state, title, address);
    };
})();
