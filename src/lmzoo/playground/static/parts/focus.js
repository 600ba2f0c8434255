// Moving the focus with the arrow keys.

/**
 * Moves the focus between buttons that stand in columns: up and down within a column, left and right to the next one.
 * Only one button of each column can be reached with the tabulator key.
 * @param {KeyboardEvent} event
 * @param {HTMLElement[][]} columns
 */
export function moveInColumns(event, columns) {
  const target = /** @type {HTMLElement} */ (event.target);
  const column = columns.findIndex((buttons) => buttons.includes(target));
  if (column < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const row = columns[column].indexOf(target);
  const goal = {
    ArrowDown: [column, row + 1], ArrowUp: [column, row - 1], ArrowRight: [column + 1, row],
    ArrowLeft: [column - 1, row], Home: [column, 0], End: [column, Infinity],
  }[event.key];
  if (!goal) return;
  event.preventDefault();
  const buttons = columns[goal[0]] ?? [];
  const next = buttons[Math.min(goal[1], buttons.length - 1)];
  if (!next) return;
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus();
}

/**
 * Makes the first button of a column the one that the tabulator key reaches, if there is none.
 * @param {HTMLElement[]} buttons
 */
export function offerFirst(buttons) {
  if (buttons.length && !buttons.some((button) => button.tabIndex === 0)) buttons[0].tabIndex = 0;
}
