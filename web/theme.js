// Runs before the first paint, so that the chosen colours are there from the start.
document.documentElement.dataset.theme = localStorage.getItem('docusearch.theme') ?? 'auto';
