// Every text of the page, in the languages it has. Names and descriptions of settings come from the program, in English.

export const languages = { en: "English", fr: "Français" };

const texts = {
  en: {
    title: "Train a convolutional network in your browser",
    lead: "The same Rust, the same WebGPU kernels as the program. Nothing leaves this page.",
    skip: "Skip to the content",
    tabTrain: "Train", tabInside: "Look inside", tabTry: "Try it", tabTake: "Take it along",
    language: "Language", theme: "Colours", themeAuto: "as the system", themeLight: "light", themeDark: "dark",
    device: "Computing on", deviceOpening: "looking for a GPU…",
    deviceWhy: { limits: "Limits", features: "Optional features", none: "none" },
    noGpu: "This browser offers no WebGPU, so the CPU computes, in a worker of its own. Chrome and Edge 137, Firefox 153 and Safari 27 or later have what it takes for the GPU.",
    noAdapter: "This browser has WebGPU but no adapter for it here, so the CPU computes, in a worker of its own. Its settings or another driver may help: chrome://gpu, about:support.",
    noJspi: "This browser lacks JavaScript Promise Integration (JSPI), which a GPU is waited for with, so the CPU computes, in a worker of its own. Chrome and Edge 137, Firefox 153 and Safari 27 or later have it.",
    computeOn: "Compute on", auto: "auto: a GPU, or else the CPU", gpu: "GPU, a software adapter too", cpu: "CPU",
    images: "Images", imagesBundled: "FashionMNIST: 12,000 images",
    imagesOwn: "Files of your own", dropTitle: "Drop files here, or choose them",
    dropHelp: "The four IDX files of MNIST, FashionMNIST, KMNIST or EMNIST (.gz or plain), CIFAR's binary files, or a folder of PNG and JPEG files with a subfolder for each class. Choose the data set that they are of below.",
    chooseFiles: "Choose files", chooseImage: "Choose an image", chooseFolder: "Choose a folder",
    filesTaken: (n, size) => `${n} files, ${size}`,
    networkFile: "Or a network of your own: a list of layers in TOML", networkFilePlaceholder: 'layers = [\n  { kind = "conv2d", out_channels = 8, kernel_size = 5 },\n  …\n]',
    start: "Start", pause: "Pause", resume: "Resume", stop: "Stop", pausing: "Pausing…", stopping: "Stopping…",
    continueRun: (done, epochs) => `Continue the saved run (${done} of ${epochs} epochs)`,
    discard: "Discard it",
    savedRun: "A run is kept in this browser.",
    moreEpochs: "Epochs in all",
    notStarted: "Choose the settings and press Start.",
    loadingData: "Reading the images…", preparing: "Compiling the kernels…", training: "Training", paused: "Paused",
    evaluating: "Evaluating and writing the report…",
    finished: (accuracy) => `Finished: ${accuracy} of the test images are classified correctly.`,
    stopped: "Stopped and saved. You can continue.", failed: "It did not work.",
    lost: "The GPU was lost. The run is kept as of the last checkpoint: continue it.",
    epoch: "Epoch", timeLeft: "Time left", speed: "Images/s", rate: "Learning rate", elapsed: "Time",
    loss: "Loss", accuracy: "Accuracy", trainLoss: "train loss", valLoss: "val. loss", trainAccuracy: "train acc.", valAccuracy: "val. acc.",
    train: "training", validation: "validation", batch: "each batch", best: "best",
    epochs: "Epochs", noEpochs: "The first epoch is under way.",
    filters: "First-layer filters", filtersHelp: "Each is scaled for itself: blue is negative, red is positive.",
    activations: "What the layers see", activationsHelp: "Each layer's maps for the image on the right of the slider.",
    chosenImage: "Test image", noModel: "Appears once training has begun.",
    confusion: "Confusion matrix", confusionHelp: "Rows are the true classes, columns the predicted ones.",
    mistakes: "Mistakes", mistakesHelp: "The first test images that are classified wrongly.",
    trueClass: "is", takenFor: "taken for",
    report: "Open the full report",
    plan: "Plan of a training step", planHelp: "Op by op, with shapes, cost and where each value is stored.",
    kernels: "Kernels", kernelsHelp: "The WGSL as it runs, with the constants it is compiled with.",
    profile: "Profile", profileHelp: "Mean time of each op, each run and waited for on its own: on a GPU mostly the wait.", runProfile: "Measure a step",
    verify: "Verify", verifyHelp: "Runs a training step on your device and on the f64 reference, op by op.", runVerify: "Verify a step",
    verifyRight: (ops, worst) => `All ${ops} ops agree with the f64 reference; the largest difference is ${worst} of what rounding explains.`,
    verifyWrong: "An op differs from the reference. Please report it with this text.",
    copy: "Copy", copied: "Copied", details: "Details", busy: "A run is under way; stop or pause it first.", working: "Working…",
    op: "Op", time: "Time", share: "Share",
    draw: "Draw", drawHelp: "Draw with mouse, pen or finger.", clear: "Clear", dropImage: "Or drop or choose an image",
    fromTest: "Or take a test image", another: "Another", invert: "Dark on bright: invert",
    seen: "As the network sees it", classes: "Most probable classes", noPrediction: "Train first, or open a model file.",
    openModel: "Open a model file (model.safetensors)", modelNow: "Network",
    drawCanvas: "Drawing surface",
    takeHelp: "The run of this page. lenet reads every file.",
    download: "Download", fileModel: "The best weights, for lenet eval and predict and for PyTorch", fileConfig: "The settings, for lenet train --config",
    fileMetrics: "Every epoch as a table", fileOnnx: "The model for other programs", fileZip: "The whole run folder, for lenet train --resume",
    fileReport: "The report as a page",
    nothingYet: "Nothing yet: train first.",
    checkpointTitle: "Continue a run of lenet train",
    checkpointHelp: "Choose the files of its run folder: checkpoint, config.toml, metrics.jsonl, diagnostics.jsonl. The images must be the same.",
    chooseRun: "Choose the run's files", resumeRun: "Continue it here",
    runRead: (done, epochs, network) => `${network}: ${done} of ${epochs} epochs are done.`,
    commandTitle: "On your own computer",
    settingWrong: "Check this setting", parameters: (n) => `${n} parameters`,
    more: "More settings", seconds: "s", minutes: "min", hours: "h",
    privacy: "Your images and models stay on this device.",
    source: "Source",
  },
  fr: {
    title: "Entraînez un réseau convolutif dans votre navigateur",
    lead: "Le même Rust, les mêmes noyaux WebGPU que le programme. Rien ne quitte cette page.",
    skip: "Aller au contenu",
    tabTrain: "Entraîner", tabInside: "À l’intérieur", tabTry: "Essayer", tabTake: "Emporter",
    language: "Langue", theme: "Couleurs", themeAuto: "celles du système", themeLight: "claires", themeDark: "sombres",
    device: "Calcule sur", deviceOpening: "recherche d’un GPU…",
    deviceWhy: { limits: "Limites", features: "Fonctions optionnelles", none: "aucune" },
    noGpu: "Ce navigateur n’offre pas WebGPU : le CPU calcule, dans un worker à part. Chrome et Edge 137, Firefox 153 et Safari 27 ou plus récents permettent le GPU.",
    noAdapter: "Ce navigateur a WebGPU mais aucun adaptateur ici : le CPU calcule, dans un worker à part. Ses réglages ou un autre pilote peuvent aider : chrome://gpu, about:support.",
    noJspi: "Ce navigateur n’a pas JavaScript Promise Integration (JSPI), par laquelle on attend le GPU : le CPU calcule, dans un worker à part. Chrome et Edge 137, Firefox 153 et Safari 27 ou plus récents l’ont.",
    computeOn: "Calculer sur", auto: "auto : un GPU, sinon le CPU", gpu: "GPU, même logiciel", cpu: "CPU",
    images: "Images", imagesBundled: "FashionMNIST : 12 000 images",
    imagesOwn: "Vos propres fichiers", dropTitle: "Déposez des fichiers ici, ou choisissez-les",
    dropHelp: "Les quatre fichiers IDX de MNIST, FashionMNIST, KMNIST ou EMNIST (.gz ou non), les fichiers binaires de CIFAR, ou un dossier d’images PNG et JPEG avec un sous-dossier par classe. Choisissez ci-dessous le jeu de données auquel ils appartiennent.",
    chooseFiles: "Choisir des fichiers", chooseImage: "Choisir une image", chooseFolder: "Choisir un dossier",
    filesTaken: (n, size) => `${n} fichiers, ${size}`,
    networkFile: "Ou votre propre réseau : une liste de couches en TOML", networkFilePlaceholder: 'layers = [\n  { kind = "conv2d", out_channels = 8, kernel_size = 5 },\n  …\n]',
    start: "Démarrer", pause: "Pause", resume: "Reprendre", stop: "Arrêter", pausing: "Mise en pause…", stopping: "Arrêt…",
    continueRun: (done, epochs) => `Continuer l’entraînement enregistré (${done} époques sur ${epochs})`,
    discard: "L’abandonner",
    savedRun: "Un entraînement est conservé dans ce navigateur.",
    moreEpochs: "Époques en tout",
    notStarted: "Choisissez les réglages, puis Démarrer.",
    loadingData: "Lecture des images…", preparing: "Compilation des noyaux…", training: "Entraînement", paused: "En pause",
    evaluating: "Évaluation et rédaction du rapport…",
    finished: (accuracy) => `Terminé : ${accuracy} des images de test sont bien classées.`,
    stopped: "Arrêté et enregistré. Vous pouvez continuer.", failed: "Cela n’a pas fonctionné.",
    lost: "Le GPU a été perdu. L’entraînement est conservé au dernier point de reprise : continuez-le.",
    epoch: "Époque", timeLeft: "Temps restant", speed: "Images/s", rate: "Taux d’apprentissage", elapsed: "Temps",
    loss: "Perte", accuracy: "Exactitude", trainLoss: "perte entr.", valLoss: "perte val.", trainAccuracy: "exact. entr.", valAccuracy: "exact. val.",
    train: "entraînement", validation: "validation", batch: "chaque lot", best: "meilleure",
    epochs: "Époques", noEpochs: "La première époque est en cours.",
    filters: "Filtres de la première couche", filtersHelp: "Chacun a sa propre échelle : bleu négatif, rouge positif.",
    activations: "Ce que voient les couches", activationsHelp: "Les cartes de chaque couche pour l’image choisie.",
    chosenImage: "Image de test", noModel: "Apparaît dès que l’entraînement a commencé.",
    confusion: "Matrice de confusion", confusionHelp: "En lignes les vraies classes, en colonnes les classes prédites.",
    mistakes: "Erreurs", mistakesHelp: "Les premières images de test mal classées.",
    trueClass: "est", takenFor: "prise pour",
    report: "Ouvrir le rapport complet",
    plan: "Plan d’un pas d’entraînement", planHelp: "Opération par opération, avec les formes, le coût et l’emplacement de chaque valeur.",
    kernels: "Noyaux", kernelsHelp: "Le WGSL tel qu’il s’exécute, avec ses constantes.",
    profile: "Profil", profileHelp: "Temps moyen de chaque opération, exécutée et attendue seule : sur un GPU, surtout l’attente.", runProfile: "Mesurer un pas",
    verify: "Vérifier", verifyHelp: "Exécute un pas d’entraînement sur votre machine et sur la référence f64, opération par opération.", runVerify: "Vérifier un pas",
    verifyRight: (ops, worst) => `Les ${ops} opérations concordent avec la référence f64 ; le plus grand écart est ${worst} de ce que l’arrondi explique.`,
    verifyWrong: "Une opération diffère de la référence. Signalez-le avec ce texte.",
    copy: "Copier", copied: "Copié", details: "Détails", busy: "Un entraînement est en cours : arrêtez-le ou mettez-le en pause.", working: "En cours…",
    op: "Opération", time: "Temps", share: "Part",
    draw: "Dessiner", drawHelp: "Dessinez à la souris, au stylet ou au doigt.", clear: "Effacer", dropImage: "Ou déposez ou choisissez une image",
    fromTest: "Ou prenez une image de test", another: "Une autre", invert: "Foncé sur clair : inverser",
    seen: "Ce que voit le réseau", classes: "Classes les plus probables", noPrediction: "Entraînez d’abord, ou ouvrez un fichier de modèle.",
    openModel: "Ouvrir un fichier de modèle (model.safetensors)", modelNow: "Réseau",
    drawCanvas: "Surface de dessin",
    takeHelp: "L’entraînement de cette page. lenet lit tous ces fichiers.",
    download: "Télécharger", fileModel: "Les meilleurs poids, pour lenet eval et predict et pour PyTorch", fileConfig: "Les réglages, pour lenet train --config",
    fileMetrics: "Chaque époque en tableau", fileOnnx: "Le modèle pour d’autres programmes", fileZip: "Tout le dossier, pour lenet train --resume",
    fileReport: "Le rapport en une page",
    nothingYet: "Rien encore : entraînez d’abord.",
    checkpointTitle: "Continuer un entraînement de lenet train",
    checkpointHelp: "Choisissez les fichiers de son dossier : checkpoint, config.toml, metrics.jsonl, diagnostics.jsonl. Les images doivent être les mêmes.",
    chooseRun: "Choisir les fichiers", resumeRun: "Le continuer ici",
    runRead: (done, epochs, network) => `${network} : ${done} époques sur ${epochs} sont faites.`,
    commandTitle: "Sur votre ordinateur",
    settingWrong: "Vérifiez ce réglage", parameters: (n) => `${n} paramètres`,
    more: "Plus de réglages", seconds: "s", minutes: "min", hours: "h",
    privacy: "Vos images et vos modèles restent sur cet appareil.",
    source: "Source",
  },
};

let current = "en";

/// The language of the page: the one chosen before, else the browser's, else English.
export function chooseLanguage(wanted) {
  const preferred = wanted ?? localStorage.getItem("language") ?? navigator.language.slice(0, 2);
  current = preferred in texts ? preferred : "en";
  if (wanted) localStorage.setItem("language", current);
  document.documentElement.lang = current;
  return current;
}

/// The text of a name; with arguments where it takes them.
export function text(name, ...values) {
  const found = texts[current][name] ?? texts.en[name] ?? name;
  return typeof found === "function" ? found(...values) : found;
}

/// A number as the language writes it.
export function number(value, digits = 0) {
  return Number(value).toLocaleString(current, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function percent(share, digits = 1) {
  return Number(share).toLocaleString(current, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/// A time in seconds as people read it.
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} ${text("seconds")}`;
  const minutes = seconds / 60;
  if (minutes < 60) return `${Math.floor(minutes)} ${text("minutes")} ${Math.floor(seconds % 60)} ${text("seconds")}`;
  return `${Math.floor(minutes / 60)} ${text("hours")} ${Math.floor(minutes % 60)} ${text("minutes")}`;
}

/// Fills every element with `data-text` below `root`.
export function fill(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
}
