document.querySelector('#switch').addEventListener('submit', async event => {
  event.preventDefault();
  const form = new FormData(event.target), said = document.querySelector('#said');
  const order = { command: 'set-switch', name: form.get('name'), value: form.get('value') };
  const headers = { 'content-type': 'application/json' };
  try {
    const answer = await fetch('/v1/admin', { method: 'POST', headers, body: JSON.stringify(order) });
    said.textContent = (await answer.json()).message;
    if (answer.ok) setTimeout(() => location.reload(), 700);
  } catch (error) {
    said.textContent = 'The node does not answer: ' + error.message;
  }
});
